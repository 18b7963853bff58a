//! Seeds: every random draw of the program comes from a generator named by (run seed, purpose, index), so that stages never share
//! a stream and any point of a run can be reached without replaying what came before it.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The generator of one purpose: a pure function of its three arguments, the same on every platform.
///
/// `purpose` is a path such as `"lm/init"` or `"activations/shuffle"`; `index` is a step, refill or document number.
pub fn rng(seed: u64, purpose: &str, index: u64) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&index.to_le_bytes());
    hasher.update(purpose.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::Rng;

    #[test]
    fn each_argument_gives_another_stream() {
        let draw = |s, p, i| rng(s, p, i).next_u64();
        let base = draw(1, "a", 0);
        assert_eq!(base, draw(1, "a", 0));
        assert_ne!(base, draw(2, "a", 0));
        assert_ne!(base, draw(1, "b", 0));
        assert_ne!(base, draw(1, "a", 1));
    }
}
