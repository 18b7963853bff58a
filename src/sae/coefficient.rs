//! The coefficient of the sparsity penalty while training: steered to a target for L0, and kept in step with a penalty that changes its shape.

/// What the coefficient is multiplied by, and what that is decided from. Part of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Control {
    pub factor: f64,
    /// Running mean of the active latents per row; 0 before the first step.
    pub l0: f64,
    /// What is kept of past errors: a logarithm of a factor, or a factor where that is steered between two limits.
    pub level: f64,
}

impl Default for Control {
    fn default() -> Self {
        Control { factor: 1.0, l0: 0.0, level: 0.0 }
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
    /// Between limits: shares of the limit that an error of one e-fold is answered with at once, and over a whole run.
    const AT_ONCE: f64 = 3.0;
    const IN_TIME: f64 = 20.0;
    /// L0 stands still where, as it falls, it would not be at the target within so many runs: thresholds that take their time are not to raise the limit. Once it has risen,
    /// it rises on until L0 would be there within the other.
    const STANDS: f64 = 2.0;
    const FOLLOWS: f64 = 0.1;
    /// It rises with the error of the mean, with the first at least, until no more than the second is missing; not where more than the third is, since L0 stands still there
    /// before it begins to fall; and to so many limits.
    const LEAST_ERROR: f64 = 0.2;
    const CLOSE: f64 = 0.02;
    const FAR: f64 = 1.0;
    const MOST_LIMITS: f64 = 4.0;

    /// After a step whose batch had `l0` active latents per row. `limit` is the factor beyond which more of the penalty does nothing
    /// ([`super::Architecture::saturates`]).
    pub fn steer(&mut self, l0: f64, target: f64, steps: u64, limit: Option<f64>) {
        let least = if limit.is_some() { 0.0 } else { Self::SHARE };
        let share = least.max(Self::RENEWALS / steps as f64).min(0.5);
        let before = self.l0;
        self.l0 = if before == 0.0 { l0 } else { (1.0 - share) * before + share * l0 };
        match limit {
            Some(limit) => self.between((l0, before), target, steps, limit),
            None => self.by_factors((l0, before), target, steps, share),
        }
    }

    /// An integral controller: the factor rises while more latents are active than wanted, by tanh(10 (l0 / target - 1)) of its fastest, and hardly moves
    /// while L0 is on its way and will be there within the memory of its running mean, nor at all while a batch is on the other side of the target than the mean. Its fastest is 3e-4 a step (as the baselines of SynthSAEBench have it), more in runs of below 50,000 steps.
    ///
    /// Below the target it is multiplied by (l0 / target)^2 of the batch at once: what the way down drove it to takes long to come down, and latents die meanwhile.
    fn by_factors(&mut self, (l0, before): (f64, f64), target: f64, steps: u64, share: f64) {
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
        let steered = self.level + fastest * brake * (10.0 * error).tanh();
        let most = Self::MOST.ln();
        // What a change of the penalty's shape put beyond the limit stays there.
        self.level = steered.clamp((-most).min(self.level), most.max(self.level));
        self.factor = self.level.exp() * (l0 / target).min(1.0).powi(2);
    }

    /// A proportional and integral controller of the error log(l0 / target), between `-limit` and `limit`: below zero the penalty is a reward, without which
    /// thresholds that rose too far hardly come down again, as the squared error alone wants fewer latents than there may be. No error is kept while a limit is reached,
    /// but where L0 stands still above the target: there the limit rises, since rows of which a latent explains more than others' need a higher coefficient.
    ///
    /// The sign is that of the slope of (l0 / target - 1)^2, the target-L0 loss of Gemma Scope 2.
    fn between(&mut self, (l0, before): (f64, f64), target: f64, steps: u64, limit: f64) {
        let error = (l0 / target).ln().clamp(-1.0, 1.0);
        let most = limit.max(self.level);
        // What rose past the limit comes down as fast as it would from there.
        let times = if error < 0.0 { most / limit } else { 1.0 };
        let steered = self.level + Self::AT_ONCE * limit * times * error;
        let in_time = Self::IN_TIME * limit / steps as f64;
        if steered.abs() < most {
            self.level = (self.level + in_time * times * error).clamp(-limit, most);
        } else if steered >= most && before > 0.0 {
            let falls = (before / self.l0).ln() * steps as f64;
            let missing = (self.l0 / target).ln();
            let within = if self.level < limit { Self::STANDS } else { Self::FOLLOWS };
            if missing > Self::CLOSE && missing < Self::FAR && falls < missing / within {
                let highest = (Self::MOST_LIMITS * limit).max(self.level);
                self.level = (self.level + in_time * missing.max(Self::LEAST_ERROR)).min(highest);
            }
        }
        self.factor = steered.clamp(-limit, limit.max(self.level));
    }

    /// The penalty of the same activations was `old` and is `new`. For a coefficient that is steered by factors: no penalty that saturates changes its shape.
    pub fn keep_penalty(&mut self, old: f64, new: f64) {
        if old > 0.0 && new > 0.0 {
            self.factor *= old / new;
            self.level += (old / new).ln();
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
            control.steer(l0, 20.0, 5000, None);
        }
        assert!((l0 / 20.0 - 1.0).abs() < 0.1, "{l0} at {}", control.factor);
        // A short run: by its integral alone L0 is driven below 4.
        let (mut control, mut l0, mut lowest) = (Control::default(), 500.0, f64::INFINITY);
        for _ in 0..200 {
            l0 += 0.1 * (500.0 / control.factor.powi(2) - l0);
            lowest = l0.min(lowest);
            control.steer(l0, 20.0, 200, None);
        }
        assert!((l0 / 20.0 - 1.0).abs() < 0.1 && lowest > 10.0, "{l0} at {}, {lowest} on the way", control.factor);
        // An L0 that follows nothing: the factor stops.
        let mut control = Control::default();
        let near = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9;
        (0..1000).for_each(|_| control.steer(500.0, 20.0, 1000, None));
        assert!(near(control.factor, Control::MOST), "{control:?}");
        control.keep_penalty(2.0, 1.0);
        control.steer(500.0, 20.0, 1000, None);
        assert!(near(control.factor, 2.0 * Control::MOST), "{control:?}");
        // A batch below the target and a mean above it: nothing is kept of it, and the penalty is less at once.
        let mut between = Control { factor: 2.0, l0: 30.0, level: 2f64.ln() };
        between.steer(10.0, 20.0, 10_000, None);
        assert!(near(between.factor, 0.5) && between.level == 2f64.ln(), "{between:?}");
        let mut control = Control { factor: 2.0, l0: 5.0, level: 2f64.ln() };
        control.keep_penalty(6.0, 3.0);
        assert!(control.factor == 4.0 && near(control.level, 4f64.ln()), "{control:?}");
        control.keep_penalty(0.0, 3.0);
        assert_eq!(control.factor, 4.0);
    }

    #[test]
    fn between_limits_thresholds_that_rose_too_far_come_down_again() {
        // As thresholds under Adam: they move by a thousandth a step at most, by the penalty and by an error that wants them at 2, where L0 is 8; from there,
        // and from 0.2, L0 is brought to 20.
        for first in [2.0, 0.2] {
            let (mut control, mut threshold) = (Control::default(), first);
            let l0 = |threshold: f64| 40.0 * (-0.8 * threshold).exp();
            for _ in 0..4000 {
                control.steer(l0(threshold), 20.0, 4000, Some(1.0));
                let wanted = control.factor + 0.3 * (2.0 - threshold);
                threshold += 1e-3 * wanted.clamp(-1.0, 1.0);
            }
            assert!((l0(threshold) / 20.0 - 1.0).abs() < 0.05, "{} at {}", l0(threshold), control.factor);
            assert!(control.factor < 0.0, "{}", control.factor);
        }
        // At the limit no error is kept while L0 falls, nor while it is far above, so that the way back is short.
        let mut control = Control::default();
        (0..1000).for_each(|step| control.steer(500.0 * (-4.0 * f64::from(step) / 1000.0).exp(), 5.0, 1000, Some(0.5)));
        assert_eq!((control.factor, control.level), (0.5, 0.0));
        let mut control = Control::default();
        (0..1000).for_each(|_| control.steer(500.0, 20.0, 1000, Some(0.5)));
        assert_eq!((control.factor, control.level), (0.5, 0.0));
        // Nothing is active: as far below as it goes, and a number.
        control.steer(0.0, 20.0, 1000, Some(0.5));
        assert_eq!(control.factor, -0.5);
    }

    #[test]
    fn thresholds_that_take_long_before_l0_falls_do_not_raise_the_limit() {
        // L0 as it follows thresholds that can cover four units in the run: first not at all, then fast.
        for l0 in [|t: f64| 400.0 * (-t * t / 3.0).exp(), |t: f64| 400.0 * (-2.0 * (t - 1.0).max(0.0)).exp()] {
            for steps in [2_000, 20_000] {
                let (mut control, mut threshold, mut lowest) = (Control::default(), 0.0f64, f64::INFINITY);
                for _ in 0..steps {
                    control.steer(l0(threshold), 20.0, steps, Some(1.0));
                    threshold = (threshold + 4.0 / steps as f64 * control.factor.clamp(-1.0, 1.0)).max(0.0);
                    lowest = lowest.min(l0(threshold));
                }
                assert!(lowest > 18.0 && (l0(threshold) / 20.0 - 1.0).abs() < 0.05 && control.level < 0.5, "{lowest} to {}", l0(threshold));
            }
        }
    }

    #[test]
    fn where_l0_stands_still_above_the_target_the_limit_rises_until_it_does_not() {
        // L0 is 27 at a coefficient of 1, and 20 at 1.82: 27 / coefficient^(1/2), with a lag of twenty steps.
        for steps in [2_000, 50_000] {
            let (mut control, mut l0, mut highest) = (Control::default(), 400.0, 0.0f64);
            for _ in 0..steps {
                l0 += 0.05 * (27.0 / control.factor.max(0.05).sqrt() - l0);
                control.steer(l0, 20.0, steps, Some(1.0));
                highest = highest.max(control.factor);
            }
            assert!((l0 / 20.0 - 1.0).abs() < 0.03 && (control.factor - 1.82).abs() < 0.15 && highest < 2.0, "{l0} at {}, {highest}", control.factor);
        }
    }
}
