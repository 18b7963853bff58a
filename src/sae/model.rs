//! A finished SAE: folded weights in raw model units, encode and decode. Files are in `format`.

use super::Transcoder;
use super::encode::{self, EncodeScratch, EncoderView};
use crate::kernels::gemm::matmul_nt;
use crate::kernels::screen::Screen;
use crate::kernels::sparse::dot;

/// Directions that are compared with all others at a time.
const FEW_DIRECTIONS: usize = 128;

/// Rows up to which computing every pre-activation is cheaper than preparing the encoder.
const FEW_ROWS: usize = 8;

/// How pre-activations become activations.
#[derive(Debug, Clone, PartialEq)]
pub enum Select {
    Relu,
    /// The k largest pre-activations of a row, those above zero.
    TopK {
        k: usize,
    },
    /// `z` where `z > max(threshold[latent], 0)`.
    JumpRelu {
        threshold: Vec<f32>,
    },
    /// `z` where `z > first[latent]`; then the row with `step` times what these leave of it added, and `z` of that where `z > threshold[latent]`.
    Refined {
        step: f32,
        first: Vec<f32>,
        threshold: Vec<f32>,
    },
    /// Matching pursuit: up to k latents one after the other, until what is left has a norm of `least`.
    Pursuit {
        k: usize,
        least: f32,
    },
    /// `relu(exp(r_mag[latent]) (z - b_enc[latent]) + b_mag[latent])` where `z > 0`.
    Gated {
        b_mag: Vec<f32>,
        r_mag: Vec<f32>,
    },
}

/// The rows of (n, D) with unit norm; a zero row stays.
pub(super) fn unit_rows(rows: &[f32], d: usize) -> Vec<f32> {
    let mut unit = rows.to_vec();
    unit.chunks_exact_mut(d).for_each(super::cpu::normalise);
    unit
}

/// F = d_sae, D = d_in, E = d_out (= D but for transcoders). Unit decoder rows, no input scaling left: what SAELens calls `normalize_activations: none`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sae {
    pub d_in: usize,
    pub d_sae: usize,
    pub select: Select,
    /// (F, D): one latent per row (transposed on disk).
    pub w_enc: Vec<f32>,
    /// (F,), in units of activations
    pub b_enc: Vec<f32>,
    /// (F, E): decoder direction of each latent.
    pub w_dec: Vec<f32>,
    /// (E,)
    pub b_dec: Vec<f32>,
    /// Whether b_dec is subtracted from the input before encoding.
    pub apply_b_dec_to_input: bool,
    /// What it reconstructs in place of its input; none: its input.
    pub transcoder: Option<Transcoder>,
}

/// Active latents of a batch of rows: row r has entries `row_start[r]..row_start[r + 1]`, latents ascending, acts > 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SparseRows {
    pub row_start: Vec<usize>,
    pub latent: Vec<u32>,
    pub act: Vec<f32>,
}

impl SparseRows {
    pub fn n_rows(&self) -> usize {
        self.row_start.len().saturating_sub(1)
    }

    /// (latents, acts) of one row.
    pub fn row(&self, r: usize) -> (&[u32], &[f32]) {
        let range = self.row_start[r]..self.row_start[r + 1];
        (&self.latent[range.clone()], &self.act[range])
    }

    /// Active latents of all rows together.
    pub fn n_active(&self) -> usize {
        self.latent.len()
    }

    /// No rows; buffers are kept.
    pub fn clear(&mut self) {
        self.row_start.clear();
        self.row_start.push(0);
        self.latent.clear();
        self.act.clear();
    }

    /// Adds one row; latents must ascend and acts be above zero.
    pub fn push_row(&mut self, latent: &[u32], act: &[f32]) {
        assert_eq!(latent.len(), act.len(), "{} latents with {} activations", latent.len(), act.len());
        if self.row_start.is_empty() {
            self.row_start.push(0);
        }
        self.latent.extend_from_slice(latent);
        self.act.extend_from_slice(act);
        self.row_start.push(self.latent.len());
    }

    /// Adds the rows of `other` behind these.
    pub fn append(&mut self, other: &SparseRows) {
        if self.row_start.is_empty() {
            self.row_start.push(0);
        }
        let before = self.latent.len();
        self.latent.extend_from_slice(&other.latent);
        self.act.extend_from_slice(&other.act);
        self.row_start.extend(other.row_start.iter().skip(1).map(|s| before + s));
    }

    /// Keeps the first `n_rows` rows.
    pub fn truncate(&mut self, n_rows: usize) {
        if n_rows < self.n_rows() {
            self.row_start.truncate(n_rows + 1);
            self.latent.truncate(self.row_start[n_rows]);
            self.act.truncate(self.row_start[n_rows]);
        }
    }

    /// The dense matrix (n_rows, d_sae).
    pub fn to_dense(&self, d_sae: usize) -> Vec<f32> {
        let mut dense = vec![0.0; self.n_rows() * d_sae];
        for (r, dense) in dense.chunks_exact_mut(d_sae).enumerate() {
            let (latent, act) = self.row(r);
            for (&j, &a) in latent.iter().zip(act) {
                dense[j as usize] = a;
            }
        }
        dense
    }
}

/// An SAE ready to encode many batches: its encoder is prepared once (`kernels::screen`), when rows first come that are worth it. Borrowed, so that its weights cannot
/// change meanwhile.
pub struct Encoder<'a> {
    sae: &'a Sae,
    screen: Option<Screen>,
    scratch: EncodeScratch,
}

impl Encoder<'_> {
    /// Encodes rows x (B, D) into `out` (reused between calls). The same bits however rows are cut into batches.
    pub fn encode(&mut self, x: &[f32], out: &mut SparseRows) {
        let Encoder { sae, screen, scratch } = self;
        // One row, as in writing text, fills no tile of a screen.
        let few = if screen.is_some() { 1 } else { FEW_ROWS };
        if x.len() <= few * sae.d_in || matches!(sae.select, Select::Pursuit { .. }) {
            return encode::encode(sae.view(), None, x, scratch, out);
        }
        let prepared = screen.get_or_insert_with(|| {
            let mut screen = Screen::default();
            let mut centred = Vec::new();
            let like = if sae.apply_b_dec_to_input { encode::subtract(x, &sae.b_dec, &mut centred) } else { x };
            screen.update(&sae.w_enc, &sae.b_enc, like);
            screen
        });
        encode::encode(sae.view(), Some(prepared), x, scratch, out);
        if prepared.is_too_coarse() {
            prepared.update(&sae.w_enc, &sae.b_enc, &[]);
        }
    }
}

impl Sae {
    /// An encoder of this SAE, which keeps what it has prepared.
    pub fn encoder(&self) -> Encoder<'_> {
        Encoder { sae: self, screen: None, scratch: EncodeScratch::default() }
    }

    /// Encodes rows x (B, D) into `out`. For more than one batch, [`Sae::encoder`] saves preparing the weights each time.
    pub fn encode(&self, x: &[f32], out: &mut SparseRows) {
        self.encoder().encode(x, out);
    }

    /// Whether a latent's activation depends on no other latent, so that [`Sae::acts_alone`] can tell it.
    pub fn decides_alone(&self) -> bool {
        matches!(self.select, Select::Relu | Select::JumpRelu { .. } | Select::Gated { .. })
    }

    /// Activations of `latents` alone for one row x (D,), into `acts` (n_latents,): those of [`Sae::encode`], bit for bit.
    ///
    /// # Panics
    /// If latents compete ([`Sae::decides_alone`]).
    pub fn acts_alone(&self, latents: &[u32], x: &[f32], acts: &mut Vec<f32>) {
        encode::acts_alone(self.view(), latents, x, acts);
    }

    /// Whether none of `latents` is active for the row x (D,), told from their own pre-activations alone: none is above zero. False where that says nothing.
    pub fn surely_silent(&self, latents: &[u32], x: &[f32]) -> bool {
        matches!(self.select, Select::TopK { .. }) && encode::surely_silent(self.view(), latents, x)
    }

    /// Width of what is reconstructed.
    pub fn d_out(&self) -> usize {
        self.transcoder.as_ref().map_or(self.d_in, |transcoder| transcoder.d_out)
    }

    /// x_hat (B, E) = b_dec + sum of act * decoder direction: of a skip transcoder what its latents give, without the linear path.
    pub fn decode(&self, rows: &SparseRows, x_hat: &mut [f32]) {
        encode::decode(rows, &self.w_dec, &self.b_dec, x_hat);
    }

    /// As [`Sae::decode`], the linear path of a skip transcoder included, for rows x (B, D) that were encoded.
    pub fn reconstruct(&self, x: &[f32], rows: &SparseRows, x_hat: &mut [f32]) {
        self.decode(rows, x_hat);
        if let Some(Transcoder { d_out, w_skip }) = &self.transcoder
            && !w_skip.is_empty()
        {
            matmul_nt(rows.n_rows(), *d_out, self.d_in, x, w_skip, x_hat, true);
        }
    }

    /// The oracle of [`Sae::encode`]: all activations (B, F), by plain sums in f64.
    pub fn encode_dense(&self, x: &[f32]) -> Vec<f32> {
        encode::encode_dense(self.view(), x)
    }

    /// The oracle of [`Sae::decode`]: x_hat (B, E) of activations (B, F), as a dense product.
    pub fn decode_dense(&self, acts: &[f32]) -> Vec<f32> {
        encode::decode_dense(acts, &self.w_dec, &self.b_dec)
    }

    /// Decoder direction of a latent, (E,).
    pub fn direction(&self, latent: u32) -> &[f32] {
        &self.w_dec[latent as usize * self.d_out()..][..self.d_out()]
    }

    /// Cosine between encoder row and decoder direction of each latent, (F,): near 0 for junk, near 1 for real features. Empty for a transcoder, which
    /// reads one place and writes another.
    pub fn encoder_decoder_cosines(&self) -> Vec<f32> {
        if self.transcoder.is_some() {
            return Vec::new();
        }
        let norm = |v: &[f32]| dot(v, v).sqrt();
        let cosine = |(e, d): (&[f32], &[f32])| if norm(e) * norm(d) > 0.0 { dot(e, d) / (norm(e) * norm(d)) } else { 0.0 };
        self.w_enc.chunks_exact(self.d_in).zip(self.w_dec.chunks_exact(self.d_in)).map(cosine).collect()
    }

    /// For at most `most` latents at even distances the largest cosine of its decoder direction with that of another latent; empty where there is one latent.
    pub fn nearest_directions(&self, most: usize) -> Vec<f32> {
        let (d, f) = (self.d_out(), self.d_sae);
        if f < 2 {
            return Vec::new();
        }
        let unit = unit_rows(&self.w_dec, d);
        let chosen: Vec<usize> = (0..most.min(f)).map(|i| i * f / most.min(f)).collect();
        let nearest = |chosen: &[usize]| {
            let rows: Vec<f32> = chosen.iter().flat_map(|&i| &unit[i * d..][..d]).copied().collect();
            let mut cosines = vec![0.0; chosen.len() * f];
            matmul_nt(chosen.len(), f, d, &rows, &unit, &mut cosines, false);
            let largest = |(&own, row): (&usize, &[f32])| {
                let others = row.iter().enumerate().filter(|(j, _)| *j != own);
                others.fold(f32::NEG_INFINITY, |most, (_, &c)| most.max(c))
            };
            chosen.iter().zip(cosines.chunks_exact(f)).map(largest).collect::<Vec<f32>>()
        };
        chosen.chunks(FEW_DIRECTIONS).flat_map(nearest).collect()
    }

    fn view(&self) -> EncoderView<'_> {
        let pre_bias = self.apply_b_dec_to_input.then_some(&self.b_dec[..]);
        EncoderView { w_enc: &self.w_enc, b_enc: &self.b_enc, w_dec: &self.w_dec, pre_bias, select: &self.select }
    }
}
