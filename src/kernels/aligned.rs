//! An allocator for programs that run the kernels: large blocks begin at a multiple of 64 bytes, and very large ones are on huge pages where there are any.
//!
//! The system's begin 16 bytes behind a page, so that every 64-byte register of a row is loaded from two lines of the cache. Gathering rows of an SAE takes a third
//! longer that way. Rows of a width that is a multiple of 16 are aligned when their matrix is.
//!
//! Rows that are gathered from all over a matrix lie on a page each, more than a CPU can keep the addresses of. Linux gives pages of 2 MiB to whoever asks for them
//! (`/sys/kernel/mm/transparent_hugepage/enabled`: madvise, the default of most systems). LOG.md has what that is worth.

use std::alloc::{GlobalAlloc, Layout, System};

/// Bytes of a cache line.
const LINE: usize = 64;

/// Smaller blocks are left to the system: an SAE's rows and matrices are not.
const LARGE: usize = 1024;

/// From here on huge pages are asked for: two of those of x86-64 and of most of ARM, one of which lies whole inside of any such block.
const HUGE: usize = 4 << 20;

/// Room for the way to the next line and for how long it was, which stands in front of the block.
const EXTRA: usize = LINE + size_of::<usize>();

/// The system's allocator, with large blocks aligned. For `#[global_allocator]`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Aligned;

/// What is asked of the system for a block that is to be aligned; none for small ones, and for those that ask for more than the system gives unasked.
fn padded(layout: Layout) -> Option<Layout> {
    let size = layout.size().checked_add(EXTRA).filter(|_| layout.size() >= LARGE && layout.align() <= size_of::<usize>())?;
    Layout::from_size_align(size, size_of::<usize>()).ok()
}

/// The aligned place inside of a block from the system.
///
/// # Safety
/// `raw` is null or has [`EXTRA`] bytes more than are wanted.
unsafe fn align(raw: *mut u8) -> *mut u8 {
    if raw.is_null() {
        return raw;
    }
    let way = (raw as usize + size_of::<usize>()).next_multiple_of(LINE) - raw as usize;
    // SAFETY: the way is size_of::<usize>() ..= EXTRA - 1 bytes, so there is room for it in front; both lie inside the block and are aligned for a usize.
    unsafe {
        let place = raw.add(way);
        place.cast::<usize>().sub(1).write(way);
        place
    }
}

/// Asks for huge pages for a new block from the system, before it is written to; a system that has none leaves it as it is.
///
/// # Safety
/// `raw` is null or a block of `size` bytes.
unsafe fn advise(raw: *mut u8, size: usize) -> *mut u8 {
    #[cfg(target_os = "linux")]
    if size >= HUGE && !raw.is_null() {
        // Whole pages; a multiple of 64 KiB is one of every size that pages have.
        const PAGE: usize = 64 << 10;
        let from = (raw as usize).next_multiple_of(PAGE) - raw as usize;
        // SAFETY: the pages lie inside the block. Advice does not change what they hold.
        unsafe {
            libc::madvise(raw.add(from).cast(), (size - from) / PAGE * PAGE, libc::MADV_HUGEPAGE);
        }
    }
    raw
}

/// How far the aligned place is from the block that holds it.
///
/// # Safety
/// `place` comes from [`align`].
unsafe fn way(place: *mut u8) -> usize {
    // SAFETY: `align` has written it there.
    unsafe { place.cast::<usize>().sub(1).read() }
}

// SAFETY: what is asked for is passed on to the system. A padded block is larger than asked for by what lies in front of the place that is given out, and is given back or
// grown as the block that it was: `padded` says the same of the same layout.
unsafe impl GlobalAlloc for Aligned {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises; a padded size is not zero.
        unsafe { padded(layout).map_or_else(|| System.alloc(layout), |padded| align(advise(System.alloc(padded), padded.size()))) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above; what is written lies in front of the place that is given out.
        unsafe { padded(layout).map_or_else(|| System.alloc_zeroed(layout), |padded| align(advise(System.alloc_zeroed(padded), padded.size()))) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises; a place of a padded layout comes from `align`.
        unsafe {
            match padded(layout) {
                None => System.dealloc(place, layout),
                Some(padded) => System.dealloc(place.sub(way(place)), padded),
            }
        }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new layout is one.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (padded(layout), padded(new)) {
            (None, None) => {
                // SAFETY: the caller's promises, passed on.
                unsafe { System.realloc(place, layout, size) }
            }
            (Some(old), Some(grown)) => {
                // SAFETY: the block is the system's, of the old padded layout. What it holds begins at the old way in the new block too, and is moved if the way to
                // a line is another one now, before that way is written in front of it.
                unsafe {
                    let before = way(place);
                    let raw = advise(System.realloc(place.sub(before), old, grown.size()), grown.size());
                    if raw.is_null() {
                        return raw;
                    }
                    let after = (raw as usize + size_of::<usize>()).next_multiple_of(LINE) - raw as usize;
                    raw.add(before).copy_to(raw.add(after), layout.size().min(size));
                    align(raw)
                }
            }
            _ => {
                // SAFETY: a new block for the new layout, filled with what both hold; the old one is given back as it was.
                unsafe {
                    let moved = self.alloc(new);
                    if !moved.is_null() {
                        place.copy_to_nonoverlapping(moved, layout.size().min(size));
                        self.dealloc(place, layout);
                    }
                    moved
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_blocks_are_aligned_zeroed_and_keep_what_they_hold_when_they_grow_and_shrink() {
        let sizes = [1, 700, LARGE - 1, LARGE, LARGE + 7, 5_000, 100_000, 140_001, 4 << 20, 130_000, 2_000, 900, 3_000_000, 8];
        for align in [1, 4, 8, 16, 64, 4096] {
            let of = |size| Layout::from_size_align(size, align).unwrap();
            let byte = |i: usize| (i * 31 + i / 251) as u8;
            // SAFETY: every block is written and read inside its size and given back with its layout.
            unsafe {
                let mut size = sizes[0];
                let mut place = Aligned.alloc_zeroed(of(size));
                assert_eq!(place.read(), 0);
                place.write(byte(0));
                for next in sizes {
                    place = Aligned.realloc(place, of(size), next);
                    assert!((place as usize).is_multiple_of(align.max(if next >= LARGE && align <= 8 { LINE } else { 1 })), "{next} bytes");
                    assert!((0..size.min(next)).all(|i| place.add(i).read() == byte(i)), "from {size} to {next} bytes, aligned to {align}");
                    (0..next).for_each(|i| place.add(i).write(byte(i)));
                    size = next;
                }
                Aligned.dealloc(place, of(size));
                let zeros = Aligned.alloc_zeroed(of(300_000));
                assert!((0..300_000).all(|i| zeros.add(i).read() == 0));
                Aligned.dealloc(zeros, of(300_000));
            }
        }
    }
}
