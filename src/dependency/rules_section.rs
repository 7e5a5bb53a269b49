//! A section of rules, of which each level sets some and leaves the others to the next.

/// Makes a section of rules of which each is set or left to the next level, and what all levels together say.
macro_rules! section {
    (
        $(#[$about:meta])*
        $name:ident, $called:literal, all of them: $all:ident, a rule switches on: $switches_on:literal
        $($(#[$doc:meta])* $rule:ident: $type:ty, $holds:ty = $built_in:expr;)*
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        #[cfg_attr(feature = "config", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "config", serde(remote = "Self", default, deny_unknown_fields))]
        #[non_exhaustive]
        pub struct $name {
            /// Whether there is one.
            #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
            pub enabled: Option<bool>,
            $(
                $(#[$doc])*
                #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
                pub $rule: Option<$type>,
            )*
        }

        impl $name {
            /// Leaves everything to the next level.
            #[must_use]
            pub fn new() -> Self {
                Self::default()
            }

            /// There is one; its rules are left to the next level.
            #[must_use]
            pub fn on() -> Self {
                Self { enabled: Some(true), ..Self::default() }
            }

            /// There is none, whatever the next level says.
            #[must_use]
            pub fn off() -> Self {
                Self { enabled: Some(false), ..Self::default() }
            }

            $(
                #[doc = concat!("Sets [`", stringify!($rule), "`](Self#structfield.", stringify!($rule), ").")]
                #[must_use]
                pub fn $rule(mut self, value: $type) -> Self {
                    self.$rule = Some(value);
                    self
                }
            )*

            /// Whether everything is left to the next level.
            #[cfg(feature = "config")]
            pub(crate) fn is_empty(&self) -> bool {
                *self == Self::default()
            }

            /// Whether this level wants one: it says so, or sets a rule, where that is enough.
            pub(super) fn wanted(&self) -> Option<bool> {
                let rules = Self { enabled: self.enabled, ..Self::default() };
                let sets_a_rule = $switches_on && *self != rules;
                self.enabled.or(sets_a_rule.then_some(true))
            }

            /// The rules that are out of range whatever the other ones are, and what is wrong with each.
            #[cfg(feature = "config")]
            pub(crate) fn wrong_alone(&self) -> Vec<(&'static str, $crate::error::BuildError)> {
                let mut wrong = Vec::new();
                $(
                    if let Some(value) = self.$rule {
                        let alone = $all { $rule: value.into(), ..$all::default() };
                        if let Err(error) = alone.check_alone() {
                            wrong.push((stringify!($rule), error));
                        }
                    }
                )*
                wrong
            }
        }

        #[doc = concat!("What holds for ", $called, ".")]
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub(crate) struct $all {
            $(pub(super) $rule: $holds,)*
        }

        impl Default for $all {
            fn default() -> Self {
                Self { $($rule: $built_in,)* }
            }
        }

        impl $all {
            /// The rules of all levels, the first that says something before the others, and which level that was.
            pub(super) fn resolve(
                levels: &[($crate::dependency::level::ConfigLevel, $name)],
            ) -> (Self, std::collections::BTreeMap<&'static str, $crate::dependency::level::Decided<String>>) {
                let mut all = Self::default();
                let mut rules = std::collections::BTreeMap::new();
                $(
                    let decided = $crate::dependency::level::decide(levels.iter().map(|(level, rules)| (*level, rules.$rule)));
                    let level = match decided {
                        Some($crate::dependency::level::Decided { value, level, .. }) => {
                            all.$rule = value.into();
                            level
                        }
                        None => $crate::dependency::level::ConfigLevel::BuiltIn,
                    };
                    let shown = $crate::dependency::shown::Shown::shown(all.$rule);
                    rules.insert(stringify!($rule), $crate::dependency::level::Decided::new(shown, level));
                )*
                (all, rules)
            }
        }

        /// What settings say: `true`, `false`, or rules.
        #[cfg(feature = "config")]
        const _: () = {
            use serde::de::value::MapAccessDeserializer;
            use serde::de::{Error, MapAccess, Visitor};
            use serde::{Deserialize, Deserializer, Serialize, Serializer};

            impl Serialize for $name {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    Self::serialize(self, serializer)
                }
            }

            struct RulesVisitor;

            impl<'de> Visitor<'de> for RulesVisitor {
                type Value = $name;

                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str(concat!("true, false, or a section with the rules of ", $called))
                }

                fn visit_bool<E: Error>(self, enabled: bool) -> Result<Self::Value, E> {
                    Ok(if enabled { $name::on() } else { $name::off() })
                }

                fn visit_map<A: MapAccess<'de>>(self, rules: A) -> Result<Self::Value, A::Error> {
                    $name::deserialize(MapAccessDeserializer::new(rules))
                }
            }

            impl<'de> Deserialize<'de> for $name {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    deserializer.deserialize_any(RulesVisitor)
                }
            }
        };
    };
}

pub(super) use section;
