//! How long a run is, and its learning rate: linear warm-up, then half a cosine (paper, Table 8).

use crate::report::UserError;
use crate::settings::RunConfig;

/// Steps of a run and of an epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length {
    pub(crate) steps_per_epoch: u64,
    pub(crate) total_steps: u64,
}

impl Length {
    pub(crate) fn of(config: &RunConfig, rows: u64) -> anyhow::Result<Self> {
        let batch_size = config.train.batch_size.get() as u64;
        let steps_per_epoch = rows / batch_size;
        if steps_per_epoch == 0 {
            return Err(UserError::new(format!(
                "the data set has {rows} images, fewer than one batch: expected at least {batch_size}"
            ))
            .hint(format!("make the batch smaller, for example --set train.batch_size={rows}"))
            .into());
        }
        let by_epochs = config.train.epochs.get().saturating_mul(steps_per_epoch);
        Ok(Self { steps_per_epoch, total_steps: config.train.steps.map_or(by_epochs, std::num::NonZeroU64::get) })
    }
}

/// Learning rate by step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LrSchedule {
    pub(crate) peak: f64,
    pub(crate) floor: f64,
    pub(crate) warmup_steps: u64,
    pub(crate) total_steps: u64,
}

impl LrSchedule {
    pub(crate) fn of(config: &RunConfig, length: Length) -> Self {
        let train = &config.train;
        let scaled = train.base_lr * train.batch_size.get() as f64 / 256.0;
        let warmup_steps = match train.warmup_epochs {
            Some(epochs) => epochs * length.steps_per_epoch as f64,
            None => train.warmup_fraction * length.total_steps as f64,
        };
        Self {
            peak: train.lr.unwrap_or(scaled),
            floor: train.min_lr,
            warmup_steps: (warmup_steps.round() as u64).min(length.total_steps),
            total_steps: length.total_steps,
        }
    }

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
