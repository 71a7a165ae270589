//! What a feature's function says, before the catalogue makes a number of it.

/// The catalogue says of what kind a feature is: each kind takes some of these, the others are missing values to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Missing,
    /// Numbers and counts.
    Number(f64),
    Flag(bool),
    /// Categories: as a text, as the hash of one, or by number below the size of the category.
    Text(&'a str),
    Hash(u64),
    Code(u32),
    /// So many of so many; the prior is the catalogue's.
    Rate {
        hits: f64,
        of: f64,
    },
    /// A moment in a cycle: the position from its beginning, in the unit of the catalogue's period.
    Phase(f64),
}

impl<'a> Value<'a> {
    pub(super) fn text(text: Option<&'a str>) -> Self {
        text.filter(|text| !text.is_empty()).map_or(Self::Missing, Self::Text)
    }

    /// 0 is the hash of what is absent.
    pub(super) fn hash(hash: Option<u64>) -> Self {
        hash.filter(|hash| *hash != 0).map_or(Self::Missing, Self::Hash)
    }

    pub(super) fn number(number: Option<f64>) -> Self {
        number.map_or(Self::Missing, Self::Number)
    }

    pub(super) fn count(count: impl Into<f64>) -> Self {
        Self::Number(count.into())
    }

    pub(super) fn flag(flag: Option<bool>) -> Self {
        flag.map_or(Self::Missing, Self::Flag)
    }

    /// What is not known is none of none: the prior.
    pub(super) fn rate((hits, of): (f64, f64)) -> Self {
        Self::Rate { hits, of }
    }
}
