//! The quantile function of a symmetric beta distribution.

/// Most terms of the continued fraction; it converges to 1e-15 with far fewer.
const MAX_TERMS: usize = 200;

/// Bisections that narrow the interval to the resolution of a double.
const HALVINGS: usize = 54;

/// The quantile of Beta(shape, shape) for the probability `p`.
pub fn quantile(p: f64, shape: f64) -> f64 {
    if p == 0.5 {
        // Exact in the last bit, which decides how the position in the middle is rounded.
        return 0.5;
    }
    if p > 0.5 {
        return 1.0 - quantile(1.0 - p, shape);
    }
    // A symmetric distribution has the probability 1/2 below 1/2. That gives the constant in
    // front of the continued fraction without a gamma function.
    let unscaled = |x: f64| (x * (1.0 - x)).powf(shape) * fraction(x, shape);
    let scale = 0.5 / unscaled(0.5);
    let (mut low, mut high) = (0.0, 0.5);
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if scale * unscaled(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// The continued fraction of the incomplete beta function with both parameters `a`, by Lentz's
/// method. It converges fast for x up to 1/2.
///
/// Source: Abramowitz and Stegun 26.5.8.
fn fraction(x: f64, a: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away_from_zero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away_from_zero(1.0 - 2.0 * a * x / (a + 1.0));
    let mut result = d;
    for m in 1..MAX_TERMS {
        let m = m as f64;
        let even = m * (a - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (2.0 * a + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for term in [even, odd] {
            d = 1.0 / away_from_zero(1.0 + term * d);
            c = away_from_zero(1.0 + term / c);
            change = c * d;
            result *= change;
        }
        if (change - 1.0).abs() < 1e-15 {
            break;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beta(1/2, 1/2) is the arcsine distribution, and Beta(1, 1) is uniform.
    #[test]
    fn quantiles_of_known_distributions() {
        for p in [0.0, 1e-3, 0.1, 0.37, 0.5, 0.8, 0.999, 1.0] {
            let arcsine = (std::f64::consts::FRAC_PI_2 * p).sin().powi(2);
            assert!((quantile(p, 0.5) - arcsine).abs() < 1e-12, "{p}");
            assert!((quantile(p, 1.0) - p).abs() < 1e-12, "{p}");
        }
    }
}
