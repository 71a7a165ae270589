//! The issuing banks of the simulated world: invented names, plausible shares. BINs are made up here too.

use super::draw::Draw;
use crate::domain::payment::CardType;

#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) bank: &'static str,
    /// ISO 3166-1 alpha-2.
    pub(super) country: &'static str,
    /// Share of the country's cards.
    pub(super) weight: f64,
    /// How much more willing than its peers to approve, in log-odds.
    pub(super) mood: f64,
    /// Share of debit cards.
    pub(super) debit: f64,
}

const fn issuer(bank: &'static str, country: &'static str, weight: f64, mood: f64, debit: f64) -> Issuer {
    Issuer { bank, country, weight, mood, debit }
}

pub(super) const ISSUERS: [Issuer; 20] = [
    issuer("Banco del Valle", "MX", 0.24, 0.10, 0.45),
    issuer("Banco Nacional Jade", "MX", 0.19, 0.25, 0.35),
    issuer("Banca Cumbre", "MX", 0.15, 0.05, 0.40),
    issuer("Banco del Norte", "MX", 0.14, -0.05, 0.45),
    issuer("Banco Sol Naciente", "MX", 0.10, -0.20, 0.50),
    issuer("Nube Digital", "MX", 0.09, -0.35, 0.25),
    issuer("Caja Popular Maya", "MX", 0.06, -0.45, 0.80),
    issuer("Tienda Crédito", "MX", 0.03, -0.60, 0.20),
    issuer("First Prairie Bank", "US", 0.32, 0.35, 0.35),
    issuer("Harbor National", "US", 0.28, 0.30, 0.30),
    issuer("Capital Orchard", "US", 0.22, 0.10, 0.15),
    issuer("Sunbelt Credit Union", "US", 0.18, 0.20, 0.65),
    issuer("Banco Andino", "CO", 0.60, -0.25, 0.40),
    issuer("Banco Cafetal", "CO", 0.40, -0.40, 0.55),
    issuer("Banco Quetzal", "GT", 1.00, -0.30, 0.45),
    issuer("Banco Pura Costa", "CR", 1.00, -0.15, 0.40),
    issuer("Banco Cuscatlán Nuevo", "SV", 1.00, -0.30, 0.50),
    issuer("Iberia Caixa", "ES", 1.00, 0.15, 0.50),
    issuer("Maple Trust", "CA", 1.00, 0.25, 0.30),
    issuer("Banco Rio Azul", "BR", 1.00, -0.50, 0.30),
];

/// Issues every card of its scheme, whatever the country.
pub(super) const AMEX_BANK: &str = "American Express";

/// Home countries of the customers, by share.
pub(super) const COUNTRIES: [(&str, f64); 9] = [
    ("MX", 0.79),
    ("US", 0.125),
    ("CO", 0.022),
    ("GT", 0.018),
    ("CR", 0.014),
    ("SV", 0.010),
    ("ES", 0.008),
    ("CA", 0.008),
    ("BR", 0.005),
];

/// Position in `ISSUERS`; `None` for a bank that is not there.
pub(super) fn issuer_index(bank: &str) -> Option<usize> {
    ISSUERS.iter().position(|issuer| issuer.bank == bank)
}

pub(super) fn pick_issuer(country: &str, draw: &mut Draw) -> usize {
    let choices: Vec<(usize, f64)> = ISSUERS
        .iter()
        .enumerate()
        .filter(|(_, issuer)| issuer.country == country)
        .map(|(index, issuer)| (index, issuer.weight))
        .collect();
    // A country without banks of its own would borrow the first one; a test holds that there is none.
    if choices.is_empty() { 0 } else { draw.pick(&choices) }
}

/// Six digits: scheme, then issuer, product, and one of a few ranges of the product.
pub(super) fn bin(brand: &str, issuer: usize, card_type: CardType, draw: &mut Draw) -> String {
    let product = match card_type {
        CardType::Debit => 1,
        CardType::Prepaid => 2,
        CardType::Credit | CardType::Unknown => 0,
    };
    match brand {
        "AMEX" => format!("37{:04}", 1_000 + draw.between(0, 12)),
        "MASTERCARD" => format!("5{}{issuer:02}{product}{}", draw.between(1, 4), draw.between(0, 2)),
        _ => format!("4{}{issuer:02}{product}{}", draw.between(1, 4), draw.between(0, 3)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_country_has_a_bank_and_every_bank_a_country() {
        for (country, _) in COUNTRIES {
            assert!(ISSUERS.iter().any(|issuer| issuer.country == country), "{country}");
        }
        for (index, issuer) in ISSUERS.iter().enumerate() {
            assert!(COUNTRIES.iter().any(|(country, _)| *country == issuer.country), "{}", issuer.bank);
            assert_eq!(issuer_index(issuer.bank), Some(index), "bank names are unique");
        }
    }
}
