//! Decimal numbers as text, and the minor units of currencies: exact, never through a float.

/// `digits` × 10^-`scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    digits: i128,
    scale: u32,
}

/// More digits than any amount or time has; fewer than overflow an `i128`.
const DIGITS_MAX: usize = 30;

impl Decimal {
    /// Optional sign, digits, and at most one `mark` with digits after it. No exponent, no thousands separator.
    pub(super) fn parse(text: &str, mark: char) -> Option<Self> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = unsigned.split_once(mark).unwrap_or((unsigned, ""));
        let count = whole.len() + fraction.len();
        if count == 0 || count > DIGITS_MAX || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
            return None;
        }
        let digits = whole.bytes().chain(fraction.bytes()).fold(0_i128, |sum, b| sum * 10 + i128::from(b - b'0'));
        Some(Self { digits: if negative { -digits } else { digits }, scale: fraction.len() as u32 })
    }

    /// The value × 10^`exponent`, when that is a whole number that fits.
    pub(super) fn scaled(self, exponent: u32) -> Option<i64> {
        let (numerator, denominator) = self.fraction(exponent)?;
        if numerator % denominator != 0 {
            return None;
        }
        i64::try_from(numerator / denominator).ok()
    }

    /// The value × 10^`exponent` / `divisor`, rounded down.
    pub(super) fn scaled_down(self, exponent: u32, divisor: i128) -> Option<i64> {
        let (numerator, denominator) = self.fraction(exponent)?;
        i64::try_from(numerator.div_euclid(denominator.checked_mul(divisor)?)).ok()
    }

    fn fraction(self, exponent: u32) -> Option<(i128, i128)> {
        Some((self.digits.checked_mul(10_i128.checked_pow(exponent)?)?, 10_i128.checked_pow(self.scale)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, mark: char, exponent: u32, expect: Option<i64>) {
        assert_eq!(Decimal::parse(text, mark).and_then(|d| d.scaled(exponent)), expect, "{text:?} at 10^{exponent}");
    }

    #[test]
    fn decimals_scale_exactly() {
        check("89", '.', 2, Some(8900));
        check("0.29", '.', 2, Some(29));
        check("19.99", '.', 2, Some(1999));
        check("19,9", ',', 2, Some(1990));
        check("1.005", '.', 2, None);
        check("1.500", '.', 2, Some(150));
        check("1.005", '.', 3, Some(1005));
        check("3.0", '.', 0, Some(3));
        check("-2.50", '.', 2, Some(-250));
        check("+7", '.', 0, Some(7));
        check("7.", '.', 0, Some(7));
        check(".5", '.', 1, Some(5));
        check("9223372036854775807", '.', 0, Some(i64::MAX));
        check("9223372036854775808", '.', 0, None);
        for text in ["", "-", ".", "1.2.3", "1e3", "1,234.00", "NaN", "٣", "1234567890123456789012345678901"] {
            check(text, '.', 2, None);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(minor in 0_i64..1_000_000_000_000, exponent in 0_u32..5) {
            let unit = 10_i64.pow(exponent);
            let text = if exponent == 0 { minor.to_string() }
                else { format!("{}.{:0width$}", minor / unit, minor % unit, width = exponent as usize) };
            prop_assert_eq!(Decimal::parse(&text, '.').and_then(|d| d.scaled(exponent)), Some(minor));
        }
    }
}
