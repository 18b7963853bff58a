//! The products that find candidates, and which of them this CPU has.

#[cfg(target_arch = "x86_64")]
use super::lists::{Exact, Lists, Panels};
#[cfg(target_arch = "x86_64")]
use super::{avx512, bf16, int8, int16};
use crate::kernels::simd::{Level, level};
#[cfg(target_arch = "x86_64")]
use std::ops::Range;

/// The product that finds candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// 8-bit integers of rotated rows, on AVX-512 with VNNI: the coarsest and fastest.
    Int8,
    /// bf16, on AVX-512 with BF16.
    Bf16,
    /// 16-bit integers, on AVX2.
    Int16,
    /// All pre-activations in f32, on any CPU.
    F32,
}

/// What a packed row is for: where one factor of a product is unsigned, the two are packed differently.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Input,
    Weights,
}

/// What packing a row v (D,) leaves to know. v~ is the packed row as the product reads it, of the row as it is or rotated.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub struct Packed {
    /// At least |v - v~|.
    pub change: f64,
    /// |v~|
    pub norm: f64,
    /// What a packed number is multiplied by.
    pub scale: f32,
    /// What the sum of its products starts from, where the row is one of weights.
    pub start: i32,
}

impl Product {
    /// Those of this CPU, the one to take first. 16-bit integers were measured against f32 with AVX2 alone; AVX-512 without bf16 keeps f32 before them.
    pub fn available() -> Vec<Product> {
        let mut found = vec![];
        #[cfg(target_arch = "x86_64")]
        {
            found.extend(int8::available().then_some(Product::Int8));
            found.extend(bf16::available().then_some(Product::Bf16));
            found.extend(int16::available().then_some(Product::Int16));
        }
        let wide = level() == Level::Avx512;
        let last = if wide { found.iter().position(|&p| p == Product::Int16).unwrap_or(found.len()) } else { found.len() };
        found.insert(last, Product::F32);
        found
    }

    /// Rows of more numbers than this could overflow its sums.
    pub fn most_inputs(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Product::Int8 => int8::MOST_INPUTS,
            _ => usize::MAX,
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Product {
    /// (latents of a panel, rows of a group) of its tiles.
    pub fn tile(self) -> (usize, usize) {
        match self {
            Product::Int8 | Product::Bf16 => (avx512::PANEL, avx512::GROUP),
            Product::Int16 => (int16::PANEL, int16::GROUP),
            Product::F32 => unreachable!("products in f32 are not packed"),
        }
    }

    /// Words of 32 bits of a packed row of width `d`.
    pub fn words(self, d: usize) -> usize {
        match self {
            Product::Int8 => d.div_ceil(4),
            _ => d.div_ceil(2),
        }
    }

    /// Packs v (D,) of this norm into words `stride` elements apart.
    ///
    /// # Safety
    /// The CPU must have the product; `out` must have `(words - 1) * stride + 1` elements.
    pub unsafe fn pack(self, v: &[f32], norm: f64, side: Side, out: *mut u32, stride: usize) -> Packed {
        // SAFETY: promised by the caller.
        unsafe {
            match self {
                Product::Int8 => int8::pack(v, norm, side, out, stride),
                Product::Bf16 => bf16::pack(v, out, stride),
                Product::Int16 => int16::pack(v, norm, out, stride),
                Product::F32 => unreachable!("products in f32 are not packed"),
            }
        }
    }

    /// Fills the lists of a strip of groups of rows with every latent of a part of the panels whose upper bound reaches its own limit and its row's: to find the k largest, given what their exact values are of, or (`None`) all above their limits.
    /// Rows with too many become undecided.
    ///
    /// # Safety
    /// The CPU must have the product; panels and lists are packed for it, in rows of these words; lists are reset and have a limit for each latent of the panels.
    pub unsafe fn screen(
        self,
        panels: &Panels,
        part: (Range<usize>, Range<usize>),
        lists: &mut Lists,
        words: usize,
        largest: Option<(usize, &Exact)>,
    ) {
        // SAFETY: promised by the caller.
        unsafe {
            match self {
                Product::Int8 => avx512::screen(panels, part, lists, words, largest, int8::tile),
                Product::Bf16 => avx512::screen(panels, part, lists, words, largest, bf16::tile),
                Product::Int16 => int16::screen(panels, part, lists, words, largest),
                Product::F32 => unreachable!("products in f32 are not packed"),
            }
        }
    }
}
