//! Rows and tables for the tests of this layer.

use super::draw::Draw;
use super::table::{Column, ColumnKind, Row, Table};
use crate::domain::PspId;

pub(super) fn row(index: usize, payment: &str, approved: bool) -> Row {
    Row {
        attempt_id: format!("a{index}"),
        payment_id: payment.to_owned(),
        attempt_number: 1,
        attempted_at: index as i64 * 60_000,
        psp_id: PspId::new("p0"),
        approved,
        amount_minor: 1_000,
        currency: "EUR".to_owned(),
        brand: "visa".to_owned(),
        issuer_country: "DE".to_owned(),
        propensity: Some(0.5),
        fee_minor: [100, 50],
    }
}

/// PSP (3), brand (3), a number that matters for one PSP above .5 only, and a number of pure noise. Approval is 1 in 5 but for
/// PSP 1 with brand 2 (3 in 5), and PSP 0 above .5 (1 in 20).
pub(super) fn table(rows: usize, seed: u64) -> Table {
    let mut draw = Draw::new(seed, 9);
    let column = |name: &str, kind, of_candidate| Column { name: name.to_owned(), kind, of_candidate };
    let columns = vec![
        column("candidate_psp", ColumnKind::Category { size: 4 }, true),
        column("card_brand", ColumnKind::Category { size: 4 }, false),
        column("amount", ColumnKind::Number, false),
        column("noise", ColumnKind::Number, false),
    ];
    let mut table = Table { catalogue: "c1".to_owned(), columns, ..Table::default() };
    for index in 0..rows {
        let (psp, brand, amount) = (draw.below(3), draw.below(3), draw.uniform());
        let chance = match (psp, brand, amount > 0.5) {
            (1, 2, _) => 0.6,
            (0, _, true) => 0.05,
            _ => 0.2,
        };
        let mut row = row(index, &index.to_string(), draw.uniform() < chance);
        row.psp_id = PspId::new(&format!("p{psp}"));
        row.brand = format!("b{brand}");
        table.rows.push(row);
        table.values.extend([psp as f32 + 1.0, brand as f32 + 1.0, amount as f32, draw.normal() as f32]);
    }
    table
}
