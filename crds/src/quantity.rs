//! Durations and byte sizes as manifests write them: `20s`, `15m`, `8h`; `512`, `256Mi`.
//!
//! One number and one unit, so that a value reads the same to everyone and is bounded by its
//! pattern. Parsed once, when a resource is loaded.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A text that is no duration or byte size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a duration.
    #[error("write a whole number of at most seven digits and s, m or h, such as 20s, 15m, 8h")]
    Duration,
    /// Not a byte size.
    #[error(
        "write a whole number of at most nine digits, with Ki, Mi, Gi or Ti if wanted, such as 256Mi"
    )]
    ByteSize,
}

/// A span of time in whole seconds: `0s`, `20s`, `15m`, `8h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(Duration);

impl HumanDuration {
    pub(crate) const PATTERN: &'static str = "^[0-9]{1,7}(s|m|h)$";

    /// A duration of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The span as the standard library has it.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<HumanDuration> for Duration {
    fn from(value: HumanDuration) -> Self {
        value.0
    }
}

impl FromStr for HumanDuration {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) = split_number(text, 7).ok_or(QuantityError::Duration)?;
        let seconds_per_unit = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(QuantityError::Duration),
        };
        Ok(Self::from_secs(number.saturating_mul(seconds_per_unit)))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0 => f.write_str("0s"),
            _ if seconds.is_multiple_of(3600) => write!(f, "{}h", seconds / 3600),
            _ if seconds.is_multiple_of(60) => write!(f, "{}m", seconds / 60),
            _ => write!(f, "{seconds}s"),
        }
    }
}

/// A number of bytes: `4096`, `64Ki`, `256Mi`, `1Gi`, `2Ti`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

impl ByteSize {
    pub(crate) const PATTERN: &'static str = "^[0-9]{1,9}(Ki|Mi|Gi|Ti)?$";

    /// A size in bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The size in bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) = split_number(text, 9).ok_or(QuantityError::ByteSize)?;
        let shift = match unit {
            "" => 0,
            "Ki" => 10,
            "Mi" => 20,
            "Gi" => 30,
            "Ti" => 40,
            _ => return Err(QuantityError::ByteSize),
        };
        // Nine digits times 2^40 pass 2^64: such a limit is as good as the largest there is.
        Ok(Self(number.saturating_mul(1 << shift)))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut number, mut unit) = (self.0, "");
        for larger in ["Ki", "Mi", "Gi", "Ti"] {
            if number == 0 || !number.is_multiple_of(1024) {
                break;
            }
            (number, unit) = (number / 1024, larger);
        }
        write!(f, "{number}{unit}")
    }
}

fn split_number(text: &str, max_digits: usize) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 || digits > max_digits {
        return None;
    }
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit))
}

macro_rules! as_text {
    ($name:ident, $expecting:literal, $description:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(|error: QuantityError| {
                    de::Error::custom(format_args!("{text:?} is not {}: {error}", $expecting))
                })
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "description": $description,
                    "type": "string",
                    "maxLength": 16,
                    "pattern": Self::PATTERN,
                })
            }
        }
    };
}

as_text!(
    HumanDuration,
    "a duration",
    "A whole number and s, m or h, such as 20s, 15m, 8h."
);
as_text!(
    ByteSize,
    "a byte size",
    "A whole number of bytes, with Ki, Mi, Gi or Ti if wanted, such as 256Mi."
);

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_one_number_and_one_unit() {
        for (text, seconds) in [
            ("0s", 0),
            ("20s", 20),
            ("15m", 900),
            ("8h", 28_800),
            ("090s", 90),
        ] {
            assert_eq!(
                text.parse(),
                Ok(HumanDuration::from_secs(seconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "s",
            "20",
            "20 s",
            "-1s",
            "1.5h",
            "1h30m",
            "2d",
            "20S",
            "99999999s",
            "٣s",
        ] {
            assert_eq!(
                text.parse::<HumanDuration>(),
                Err(QuantityError::Duration),
                "{text}"
            );
        }
    }

    #[test]
    fn byte_sizes_are_binary() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("256Mi", 256 << 20),
            ("2Ti", 2 << 40),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize::from_bytes(bytes)), "{text}");
        }
        assert_eq!("999999999Ti".parse(), Ok(ByteSize::from_bytes(u64::MAX)));
        for text in ["", "Mi", "1M", "1MB", "1 Mi", "-1", "1.5Gi", "1234567890"] {
            assert_eq!(
                text.parse::<ByteSize>(),
                Err(QuantityError::ByteSize),
                "{text}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn what_is_printed_parses_to_the_same(seconds in 0u64..9_999_999, bytes in 0u64..999_999_999) {
            let duration = HumanDuration::from_secs(seconds);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
            let size = ByteSize::from_bytes(bytes);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }

        #[test]
        fn any_text_parses_or_is_refused(text in ".{0,24}") {
            let _ = text.parse::<HumanDuration>();
            let _ = text.parse::<ByteSize>();
        }
    }
}
