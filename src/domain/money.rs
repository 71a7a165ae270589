//! Minor units of currencies, and amounts as people write them.

/// How many decimals the minor unit of an ISO 4217 currency stands for; most have two.
pub fn currency_exponent(code: &str) -> u32 {
    match code {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI" | "VND" | "VUV" | "XAF"
        | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        "CLF" | "UYW" => 4,
        _ => 2,
    }
}

/// `12,345.60 MXN` for 1234560 minor units.
pub fn written(minor: i64, currency: &str) -> String {
    let unit = 10_u64.pow(currency_exponent(currency));
    let (whole, part) = (minor.unsigned_abs() / unit, minor.unsigned_abs() % unit);
    let sign = if minor < 0 { "-" } else { "" };
    let whole = grouped(whole);
    match currency_exponent(currency) as usize {
        0 => format!("{sign}{whole} {currency}"),
        decimals => format!("{sign}{whole}.{part:0decimals$} {currency}"),
    }
}

/// `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_in_major_units() {
        let check = |minor, currency: &str, expected: &str| assert_eq!(written(minor, currency), expected);
        check(1_234_560, "MXN", "12,345.60 MXN");
        check(5, "USD", "0.05 USD");
        check(-99_900, "USD", "-999.00 USD");
        check(1_000, "JPY", "1,000 JPY");
        check(1_234_567, "KWD", "1,234.567 KWD");
        check(0, "", "0.00 ");
        check(i64::MIN, "JPY", "-9,223,372,036,854,775,808 JPY");
    }
}
