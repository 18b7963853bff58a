//! The coefficient of the sparsity penalty while training: steered to a target for L0, and kept in step with a penalty that changes its shape.

/// What the coefficient is multiplied by, and what that is decided from. Part of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Control {
    pub factor: f64,
    /// Running mean of the active latents per row; 0 before the first step.
    pub l0: f64,
}

impl Default for Control {
    fn default() -> Self {
        Control { factor: 1.0, l0: 0.0 }
    }
}

impl Control {
    /// Share of a new batch in the running mean, and how often over a whole run the mean is renewed at least: in a short run it would stay behind the change that it steers.
    const SHARE: f64 = 0.01;
    const RENEWALS: f64 = 20.0;
    /// Share of the change that is made while L0 is on its way to the target already.
    const ON_ITS_WAY: f64 = 0.01;
    /// Change of the factor's logarithm per step at most, and over a whole run at least where L0 is off all the while.
    const PER_STEP: f64 = 3e-4;
    const PER_RUN: f64 = 15.0;
    /// The factor and its inverse at most. Beyond, the penalty is all that Adam sees, and what L0 lacks is steps; the way back would be long.
    pub const MOST: f64 = 1e4;

    /// An integral controller: the factor rises while more latents are active than wanted, by tanh(10 (l0 / target - 1)) of its fastest, and hardly moves
    /// while L0 is on its way and will be there within the memory of its running mean, nor at all while a batch is on the other side of the target than the mean. Its fastest is 3e-4 a step (as the baselines of SynthSAEBench have it), more in runs of below 50,000 steps.
    pub fn steer(&mut self, l0: f64, target: f64, steps: u64) {
        let share = Self::SHARE.max(Self::RENEWALS / steps as f64).min(0.5);
        let before = self.l0;
        self.l0 = if before == 0.0 { l0 } else { (1.0 - share) * before + share * l0 };
        let error = self.l0 / target - 1.0;
        let (gone, left) = ((before - self.l0) * error.signum(), (self.l0 - target).abs());
        let on_its_way = before != 0.0 && gone > share * left;
        let fastest = Self::PER_STEP.max(Self::PER_RUN / steps as f64);
        let crossed = (l0 - target) * error < 0.0;
        let brake = match (crossed, on_its_way) {
            (true, _) => 0.0,
            (false, true) => Self::ON_ITS_WAY,
            (false, false) => 1.0,
        };
        let steered = self.factor * (fastest * brake * (10.0 * error).tanh()).exp();
        // What a change of the penalty's shape put beyond the limit stays there.
        self.factor = steered.clamp(Self::MOST.recip().min(self.factor), Self::MOST.max(self.factor));
    }

    /// The penalty of the same activations was `old` and is `new`.
    pub fn keep_penalty(&mut self, old: f64, new: f64) {
        if old > 0.0 && new > 0.0 {
            self.factor *= old / new;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_finds_the_coefficient_that_gives_the_target() {
        // A plant whose L0 is 100 / factor, with a lag of twenty steps.
        let (mut control, mut l0) = (Control::default(), 100.0);
        for _ in 0..5000 {
            l0 += 0.05 * (100.0 / control.factor - l0);
            control.steer(l0, 20.0, 5000);
        }
        assert!((l0 / 20.0 - 1.0).abs() < 0.1, "{l0} at {}", control.factor);
        // A short run: before, it was driven to an L0 of 1.
        let (mut control, mut l0) = (Control::default(), 500.0);
        for _ in 0..200 {
            l0 += 0.1 * (500.0 / control.factor.powi(2) - l0);
            control.steer(l0, 20.0, 200);
        }
        assert!((l0 / 20.0 - 1.0).abs() < 0.3, "{l0} at {}", control.factor);
        // An L0 that follows nothing: the factor stops.
        let mut control = Control::default();
        (0..1000).for_each(|_| control.steer(500.0, 20.0, 1000));
        assert_eq!(control.factor, Control::MOST);
        control.factor = 2.0 * Control::MOST;
        control.steer(500.0, 20.0, 1000);
        assert_eq!(control.factor, 2.0 * Control::MOST);
        // A batch below the target and a mean above it: nothing is changed.
        let mut between = Control { factor: 2.0, l0: 30.0 };
        between.steer(10.0, 20.0, 10_000);
        assert_eq!(between.factor, 2.0);
        let mut control = Control { factor: 2.0, l0: 5.0 };
        control.keep_penalty(6.0, 3.0);
        assert_eq!(control.factor, 4.0);
        control.keep_penalty(0.0, 3.0);
        assert_eq!(control.factor, 4.0);
    }
}
