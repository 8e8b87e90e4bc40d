//! Reads that are slow or fail on purpose, to see what the rest makes of them.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::random::RandomStream;

/// No read is made to wait longer than this.
const DELAY_MAX: Duration = Duration::from_mins(10);

/// What goes wrong with reads: rules, each with the share of reads that it strikes.
///
/// As text, rules are parted by commas: `slow=200ms@0.1` makes one read in ten take 200 ms longer, `fail@0.05` makes one in
/// twenty fail as if the connection were lost. Without `@SHARE` a rule strikes every read. Times are in `us`, `ms` or `s`.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Rule {
    fault: Fault,
    /// 0 to 1.
    share: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Slow(Duration),
    Fail,
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Faults, String> {
        let rules = text.split(',').map(str::trim).map(rule).collect::<Result<_, _>>()?;
        Ok(Faults { rules })
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Rule { fault, share }) in self.rules.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            match fault {
                Fault::Slow(time) => write!(formatter, "{comma}slow={}us@{share}", time.as_micros())?,
                Fault::Fail => write!(formatter, "{comma}fail@{share}")?,
            }
        }
        Ok(())
    }
}

fn rule(text: &str) -> Result<Rule, String> {
    let (fault, share) = text.split_once('@').unwrap_or((text, "1"));
    let share = share.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    let share = share.ok_or_else(|| format!("`{text}`: expected a share of reads from 0 to 1 after `@`"))?;
    let fault = match fault.split_once('=') {
        Some(("slow", time)) => Fault::Slow(duration(time).ok_or_else(|| {
            format!("`{text}`: expected a time such as 200ms, at most {} s, after `slow=`", DELAY_MAX.as_secs())
        })?),
        None if fault == "fail" => Fault::Fail,
        _ => return Err(format!("`{text}`: expected `slow=TIME` or `fail`")),
    };
    Ok(Rule { fault, share })
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let microseconds = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        _ => return None,
    };
    Some(Duration::from_micros(number.checked_mul(microseconds)?)).filter(|time| *time <= DELAY_MAX)
}

/// Faults that strike one data set: the n-th read meets the same ones in every run.
#[derive(Debug)]
pub(crate) struct Injector {
    faults: Faults,
    reads: AtomicU64,
}

impl Injector {
    pub(crate) fn new(faults: Faults) -> Injector {
        Injector { faults, reads: AtomicU64::new(0) }
    }

    /// Waits, or fails, as the rules say for the next read.
    pub(crate) async fn strike(&self) -> Result<(), object_store::Error> {
        let read = self.reads.fetch_add(1, Ordering::Relaxed);
        for (number, rule) in self.faults.rules.iter().enumerate() {
            // 53 bits are a number from 0 to below 1.
            let draw = (RandomStream::new(&[read, number as u64]).next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
            if draw >= rule.share {
                continue;
            }
            match rule.fault {
                Fault::Slow(time) => tokio::time::sleep(time).await,
                Fault::Fail => {
                    return Err(object_store::Error::Generic { store: "faults", source: "injected on purpose".into() });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_and_nonsense_is_refused() {
        let faults: Faults = "slow=200ms@0.25, fail@0.05,slow=3s".parse().unwrap();
        let slow = |milliseconds, share| Rule { fault: Fault::Slow(Duration::from_millis(milliseconds)), share };
        assert_eq!(faults.rules, [slow(200, 0.25), Rule { fault: Fault::Fail, share: 0.05 }, slow(3000, 1.0)]);
        assert_eq!(faults.to_string().parse(), Ok(faults));
        for (text, message) in [
            ("", "``: expected `slow=TIME` or `fail`"),
            ("slow", "`slow`: expected `slow=TIME` or `fail`"),
            ("slow=3", "`slow=3`: expected a time such as 200ms, at most 600 s, after `slow=`"),
            ("slow=99999999999999999999s", "`slow=99999999999999999999s`: expected a time"),
            ("slow=601s", "`slow=601s`: expected a time"),
            ("fail@2", "`fail@2`: expected a share of reads from 0 to 1 after `@`"),
            ("fail@NaN", "`fail@NaN`: expected a share of reads"),
            ("break@0.5", "`break@0.5`: expected `slow=TIME` or `fail`"),
        ] {
            let error = text.parse::<Faults>().unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
