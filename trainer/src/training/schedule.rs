//! The learning rate: linear warm-up, then half a cosine (paper, Table 8).

/// Learning rate by step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LrSchedule {
    pub(crate) peak: f64,
    pub(crate) floor: f64,
    pub(crate) warmup_steps: u64,
    pub(crate) total_steps: u64,
}

impl LrSchedule {
    /// Rate of step `step`, counted from 0. The last warm-up step has the peak, the last step of all nearly the floor.
    pub(crate) fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let cosine_steps = (self.total_steps - self.warmup_steps).max(1);
        let progress = ((step - self.warmup_steps) as f64 / cosine_steps as f64).min(1.0);
        self.floor + (self.peak - self.floor) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::LrSchedule;

    #[test]
    fn rises_to_the_peak_then_falls_to_the_floor() {
        let schedule = LrSchedule { peak: 2.0, floor: 0.5, warmup_steps: 4, total_steps: 104 };
        let rates: Vec<f64> = (0..104).map(|step| schedule.at(step)).collect();
        assert_eq!(rates[..5], [0.5, 1.0, 1.5, 2.0, 2.0]);
        assert!((rates[54] - 1.25).abs() < 1e-12, "half-way down the cosine, got {}", rates[54]);
        assert!(rates[4..].windows(2).all(|pair| pair[1] < pair[0]));
        assert!(rates[103] > 0.5 && rates[103] < 0.501);
    }

    #[test]
    fn a_run_may_be_all_warm_up() {
        let schedule = LrSchedule { peak: 1.0, floor: 0.0, warmup_steps: 2, total_steps: 2 };
        assert!((schedule.at(1) - 1.0).abs() < 1e-12);
    }
}
