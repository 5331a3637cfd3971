//! Text forms of ids, LSNs and shard indexes (02 §3).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// Why a text is not one of the scalars of 02 §3.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ScalarError {
    /// An id with the wrong number of characters.
    #[error("expected 32 hexadecimal digits, got {0} characters")]
    IdLength(usize),
    /// A character that is not a hexadecimal digit.
    #[error("invalid character {0:?} at position {1}, expected a hexadecimal digit")]
    NotHex(char, usize),
    /// Not of the form `HI/LO`.
    #[error("LsnParseError: expected two hexadecimal numbers of 32 bits with one `/` between them")]
    Lsn,
    /// Not of the form `NNCC`.
    #[error("expected 4 hexadecimal digits, two for the shard number and two for the shard count")]
    ShardIndex,
}

fn parse_id(text: &str) -> Result<[u8; 16], ScalarError> {
    if let Some((at, c)) = text.char_indices().find(|(_, c)| !c.is_ascii_hexdigit()) {
        return Err(ScalarError::NotHex(c, at));
    }
    if text.len() != 32 {
        return Err(ScalarError::IdLength(text.len()));
    }
    let value = u128::from_str_radix(text, 16).map_err(|_| ScalarError::IdLength(text.len()))?;
    Ok(value.to_be_bytes())
}

/// Implements the text and JSON forms through `FromStr` and `Display`.
macro_rules! json_as_text {
    ($($name:ident),+) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )+};
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 16]);

        impl FromStr for $name {
            type Err = ScalarError;

            fn from_str(text: &str) -> Result<Self, ScalarError> {
                parse_id(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id! {
    /// A tenant: 16 bytes, 32 lower-case hexadecimal digits as text.
    TenantId
}
id! {
    /// A timeline: 16 bytes, 32 lower-case hexadecimal digits as text.
    TimelineId
}

/// A position in the WAL, in bytes; `HI/LO` in upper-case hexadecimal as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// `0/0`: "unknown" in answers, "latest" in questions (06 §1).
    pub const INVALID: Self = Self(0);

    /// Whether this is a position, that is, not `0/0`.
    pub const fn is_valid(self) -> bool {
        self.0 != 0
    }
}

impl FromStr for Lsn {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let (high, low) = text.trim().split_once('/').ok_or(ScalarError::Lsn)?;
        let half = |part: &str| u32::from_str_radix(part, 16).map_err(|_| ScalarError::Lsn);
        Ok(Self((u64::from(half(high)?) << 32) | u64::from(half(low)?)))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which shard of how many; `NNCC` as text. A count of 0 is an unsharded tenant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardIndex {
    /// Number of the shard, from 0.
    pub number: u8,
    /// Number of shards, 0 when the tenant is unsharded.
    pub count: u8,
}

impl FromStr for ShardIndex {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        if text.len() != 4 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ScalarError::ShardIndex);
        }
        let value = u16::from_str_radix(text, 16).map_err(|_| ScalarError::ShardIndex)?;
        let [number, count] = value.to_be_bytes();
        Ok(Self { number, count })
    }
}

impl fmt::Display for ShardIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:02x}", self.number, self.count)
    }
}

impl fmt::Debug for ShardIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

json_as_text!(TenantId, TimelineId, Lsn, ShardIndex);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_take_either_case_and_show_lower_case() {
        let id: TenantId = "88DFEFDB53D20E1B4BB1FEAE80E8020E".parse().unwrap();
        assert_eq!(id.to_string(), "88dfefdb53d20e1b4bb1feae80e8020e");
        assert_eq!("0".repeat(31).parse::<TenantId>(), Err(ScalarError::IdLength(31)));
        assert_eq!("0".repeat(33).parse::<TenantId>(), Err(ScalarError::IdLength(33)));
        for bad in
            ["", "88dfefdb-53d2-0e1b-4bb1-feae80e8020e", " 88dfefdb53d20e1b4bb1feae80e8020", "é"]
        {
            assert!(bad.parse::<TimelineId>().is_err(), "{bad:?}");
        }
        // `u128::from_str_radix` alone would take a sign.
        assert!("+8dfefdb53d20e1b4bb1feae80e8020e".parse::<TenantId>().is_err());
    }

    #[test]
    fn lsn_forms() {
        assert_eq!(" 0/16f9a38 ".parse::<Lsn>().unwrap().to_string(), "0/16F9A38");
        assert_eq!("2A/0".parse::<Lsn>().unwrap(), Lsn(0x2a << 32));
        for bad in ["ABC", "0/", "/1", "1/2/3", "0/123456789", "", "0 / 1", "-1/0"] {
            assert_eq!(bad.parse::<Lsn>(), Err(ScalarError::Lsn), "{bad:?}");
        }
        assert!(serde_json::from_str::<Lsn>("1").is_err());
    }

    #[test]
    fn shard_index_forms() {
        for (text, number, count) in
            [("0000", 0, 0), ("0001", 0, 1), ("0102", 1, 2), ("1020", 16, 32)]
        {
            let index = ShardIndex { number, count };
            assert_eq!(text.parse::<ShardIndex>().unwrap(), index);
            assert_eq!(index.to_string(), text);
        }
        assert_eq!("0B10".parse::<ShardIndex>().unwrap().to_string(), "0b10");
        for bad in ["102", "01-02", "00000", "", "+102", "zzzz"] {
            assert_eq!(bad.parse::<ShardIndex>(), Err(ScalarError::ShardIndex), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn scalars_round_trip(id: [u8; 16], lsn: u64, number: u8, count: u8) {
            let tenant = TenantId(id);
            prop_assert_eq!(tenant.to_string().parse::<TenantId>().unwrap(), tenant);
            prop_assert_eq!(Lsn(lsn).to_string().parse::<Lsn>().unwrap(), Lsn(lsn));
            let index = ShardIndex { number, count };
            prop_assert_eq!(index.to_string().parse::<ShardIndex>().unwrap(), index);
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<TenantId>();
            let _ = text.parse::<Lsn>();
            let _ = text.parse::<ShardIndex>();
        }
    }
}
