//! Drawing: a frame with axes, lines and text, in the classes of `style.css`.

/// The part of a drawing in which values are shown, in its own units.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
    /// Values at the left and right edge.
    pub(super) x: (f64, f64),
    /// Values at the bottom and top edge.
    pub(super) y: (f64, f64),
}

/// Which end of a text is put at its place.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Frame {
    pub(super) fn at_x(&self, value: f64) -> f64 {
        self.left + (self.right - self.left) * (value - self.x.0) / (self.x.1 - self.x.0)
    }

    pub(super) fn at_y(&self, value: f64) -> f64 {
        self.bottom - (self.bottom - self.top) * (value - self.y.0) / (self.y.1 - self.y.0)
    }

    /// A line through the values, and the area below it.
    pub(super) fn curve(&self, xs: &[f64], ys: &[f64], color: &str) -> String {
        let points: Vec<String> =
            xs.iter().zip(ys).map(|(&x, &y)| format!("{:.1},{:.1}", self.at_x(x), self.at_y(y))).collect();
        let (Some(&first), Some(&last)) = (xs.first(), xs.last()) else { return String::new() };
        let path = points.join(" ");
        format!(
            "<polygon class=\"area fill-{color}\" points=\"{:.1},{bottom:.1} {path} {:.1},{bottom:.1}\"/>\
             <polyline class=\"line {color}\" points=\"{path}\"/>",
            self.at_x(first),
            self.at_x(last),
            bottom = self.bottom,
        )
    }

    /// Lines across at round values, with their labels to the left.
    pub(super) fn y_axis(&self, ticks: &[f64]) -> String {
        ticks
            .iter()
            .map(|&tick| {
                let y = self.at_y(tick);
                line("grid", (self.left, y), (self.right, y))
                    + &text("soft", Anchor::End, (self.left - 8.0, y + 4.0), &grouped(tick))
            })
            .collect()
    }

    /// Labels below at round values.
    pub(super) fn x_axis(&self, ticks: &[f64], unit: &str) -> String {
        let labels = ticks.iter().enumerate().map(|(number, &tick)| {
            let unit = if number + 1 == ticks.len() { unit } else { "" };
            text("soft", Anchor::Middle, (self.at_x(tick), self.bottom + 18.0), &format!("{}{unit}", plain(tick)))
        });
        line("axis", (self.left, self.bottom), (self.right, self.bottom)) + &labels.collect::<String>()
    }
}

pub(super) fn drawing(width: f64, height: f64, title: &str, content: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{0}\"><title>{0}</title>{content}</svg>\n",
        escape(title)
    )
}

pub(super) fn line(class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) -> String {
    format!("<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>")
}

pub(super) fn bar(class: &str, (x, y): (f64, f64), width: f64, height: f64) -> String {
    format!(
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" rx=\"2\"/>",
        width.max(0.0)
    )
}

pub(super) fn dot(class: &str, (x, y): (f64, f64), radius: f64) -> String {
    format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"/>")
}

pub(super) fn text(class: &str, anchor: Anchor, (x, y): (f64, f64), words: &str) -> String {
    let anchor = match anchor {
        Anchor::Start => "start",
        Anchor::Middle => "middle",
        Anchor::End => "end",
    };
    format!("<text class=\"{class}\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escape(words))
}

/// Round values from 0 to `max` or just above, four to eight of them.
pub(super) fn ticks(max: f64) -> Vec<f64> {
    if !(max.is_finite() && max > 0.0) {
        return vec![0.0, 1.0];
    }
    let magnitude = 10_f64.powf((max / 4.0).log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * magnitude);
    let step = steps.into_iter().find(|step| max / step <= 6.0).unwrap_or(10.0 * magnitude);
    (0..=(max / step).ceil() as usize).map(|number| number as f64 * step).collect()
}

/// A number with as many digits as it needs.
fn plain(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}").trim_end_matches('0').to_owned() }
}

/// `12,345`; below ten with a decimal if there is one.
pub(super) fn grouped(value: f64) -> String {
    if value.abs() < 10.0 {
        return plain((value * 10.0).round() / 10.0);
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_largest_value() {
        assert_eq!(ticks(1806.0), [0.0, 500.0, 1000.0, 1500.0, 2000.0]);
        assert_eq!(ticks(0.5), [0.0, 0.1, 0.2, 3.0 * 0.1, 0.4, 0.5]);
        for max in [1e-9, 0.3, 7.0, 99.0, 101.0, 12_345.0, 1e12] {
            let ticks = ticks(max);
            assert!((4..=8).contains(&ticks.len()) && *ticks.last().unwrap() >= max, "{max}: {ticks:?}");
        }
        assert_eq!(ticks(f64::NAN), [0.0, 1.0]);
    }

    #[test]
    fn numbers_are_grouped_and_text_is_escaped() {
        let check = |value: f64, text: &str| assert_eq!(grouped(value), text);
        check(0.0, "0");
        check(2.34, "2.3");
        check(999.6, "1,000");
        check(1_234_567.0, "1,234,567");
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
