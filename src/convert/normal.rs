//! The normal distribution.

use std::f64::consts::TAU;

/// The number below which a share `p` of 0 to 1 of a standard normal distribution lies; -inf for 0, inf for 1.
///
/// Found by halving an interval, since it is asked for once per layer; as precise as [`above`] is.
pub(super) fn quantile(p: f64) -> f64 {
    if p > 0.5 {
        return -quantile(1.0 - p);
    }
    if p <= 0.0 {
        return f64::NEG_INFINITY;
    }
    // Beyond 39 the share is below the least number.
    let (mut low, mut high) = (0.0, 39.0);
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return -middle;
        }
        if above(middle) > p {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/// The share above `x` of a standard normal distribution, for x of at least 0.
///
/// By the series 1/2 - phi(x) (x + x^3/3 + x^5/15 + ...) (Abramowitz and Stegun 26.2.11), and where that would lose
/// digits by the continued fraction phi(x) / (x + 1/(x + 2/(x + ...))) (26.2.14), of which 200 terms are enough from 2 on.
fn above(x: f64) -> f64 {
    let density = (-0.5 * x * x).exp() / TAU.sqrt();
    if x < 2.0 {
        let (mut term, mut sum, mut odd) = (x, x, 1.0);
        while term > sum * 1e-18 {
            odd += 2.0;
            term *= x * x / odd;
            sum += term;
        }
        return 0.5 - density * sum;
    }
    let fraction = (1..=200).rev().fold(x, |below, k| x + f64::from(k) / below);
    density / fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        // Wichura, Algorithm AS 241, and its implementations to 16 digits.
        for (p, want) in [
            (0.5, 0.0),
            (0.6, 0.2533471031357997),
            (0.9, 1.2815515655446004),
            (0.95, 1.6448536269514722),
            (0.975, 1.959963984540054),
            (0.99, 2.3263478740408408),
            (0.999, 3.090232306167813),
            (1e-10, -6.361340902404056),
            (1e-300, -37.0471),
        ] {
            let (got, tolerance) = (quantile(p), if p < 1e-100 { 1e-4 } else { 1e-13 });
            assert!((got - want).abs() <= tolerance * want.abs().max(1.0), "{p}: {got}, expected {want}");
        }
        assert_eq!([quantile(0.0), quantile(1.0)], [f64::NEG_INFINITY, f64::INFINITY]);
    }

    #[test]
    fn both_forms_meet() {
        let (left, right) = (above(2.0 - 1e-9), above(2.0));
        assert!((left - right).abs() < 1e-9 && left > right, "{left} {right}");
        assert!((above(2.0) - 0.022_750_131_948_179_21).abs() < 1e-16);
    }
}
