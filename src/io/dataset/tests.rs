use super::*;
use crate::domain::PspId;
use crate::learn::{Alternative, Column, ColumnKind, Row};

fn column(name: &str, kind: ColumnKind, of_candidate: bool) -> Column {
    Column { name: name.to_owned(), kind, of_candidate }
}

fn row(number: u32) -> Row {
    Row {
        attempt_id: format!("a{number}"),
        payment_id: format!("p{}", number / 2),
        attempt_number: 1 + number as i32 % 2,
        attempted_at: 1_546_300_800_000 + i64::from(number),
        psp_id: PspId::new(["alpha", "beta"][number as usize % 2]),
        approved: number.is_multiple_of(3),
        amount_minor: i64::from(number) * 100,
        currency: "EUR".to_owned(),
        brand: if number == 1 { String::new() } else { "VISA".to_owned() },
        issuer_country: "DE".to_owned(),
        propensity: (number != 2).then(|| f64::from(number) / 10.0),
        fee_minor: [300, 100],
    }
}

fn table(rows: u32) -> Table {
    Table {
        catalogue: "abc".to_owned(),
        columns: vec![
            column("amount", ColumnKind::Number, false),
            column("psp", ColumnKind::Category { size: 64 }, true),
            column("rate", ColumnKind::Rate, true),
        ],
        values: (0..rows).flat_map(|row| [row as f32 / 3.0, (row % 64) as f32, -0.5]).collect(),
        rows: (0..rows).map(row).collect(),
        alternatives: (0..rows.min(2))
            .map(|row| Alternative {
                row,
                psp_id: PspId::new("gamma"),
                fee_minor: [1, -2],
                propensity: None,
                values: vec![1.5, 63.0, f32::MIN_POSITIVE],
            })
            .collect(),
    }
}

#[test]
fn what_is_written_is_read() {
    for rows in [0, 1, 7, 70_000] {
        let directory = tempfile::tempdir().unwrap();
        let manifest = Manifest { label: "approved".into(), range: [Some(1), None], ..Manifest::default() };
        let written = table(rows);
        // The second time the first one is replaced.
        write(directory.path(), &table(3), &manifest).unwrap();
        write(directory.path(), &written, &manifest).unwrap();
        let (read, told) = read(directory.path()).unwrap();
        assert!(read == written, "{rows} rows came back as others");
        assert_eq!((told.rows, told.positives), (u64::from(rows), written.rows.iter().filter(|row| row.approved).count() as u64));
        assert_eq!((told.catalogue.as_str(), told.label.as_str(), told.range), ("abc", "approved", [Some(1), None]));
    }
}

#[test]
fn what_is_wrong_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let refused = || read(directory.path()).unwrap_err().to_string();
    assert!(refused().contains("no manifest.json"), "{}", refused());
    fs::write(at("mine.txt"), "x").unwrap();
    let occupied = write(directory.path(), &table(2), &Manifest::default()).unwrap_err().to_string();
    assert!(occupied.contains("is not empty"), "{occupied}");
    fs::remove_file(at("mine.txt")).unwrap();

    write(directory.path(), &table(2), &Manifest::default()).unwrap();
    let rows = fs::read(at(ROWS)).unwrap();
    fs::write(at(ROWS), &rows[..rows.len() - 1]).unwrap();
    assert!(refused().contains("rows.parquet: is not the file"), "{}", refused());
    fs::remove_file(at(ROWS)).unwrap();
    assert!(refused().contains("rows.parquet"), "{}", refused());
    fs::write(at(MANIFEST), "{").unwrap();
    assert!(refused().contains("is not the manifest"), "{}", refused());

    let mut wide = table(2);
    wide.values.pop();
    let wrong = write(directory.path(), &wide, &Manifest::default()).unwrap_err().to_string();
    assert!(wrong.contains("5 values are not 2 rows of 3 columns"), "{wrong}");
}
