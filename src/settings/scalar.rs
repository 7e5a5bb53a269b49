//! What a word without quotes means: in YAML, by its core schema, and in a variable.

use super::node::Value;

/// `true` and `5` are no text; `yes`, `on` and `5s` are.
pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Nothing,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => number(text).unwrap_or_else(|| Value::Text(text.to_owned())),
    }
}

fn number(text: &str) -> Option<Value> {
    if let Some(hex) = text.strip_prefix("0x") {
        return integer(hex, 16);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return integer(octal, 8);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" if text.starts_with('-') => {
            return Some(Value::Float(f64::NEG_INFINITY));
        }
        ".inf" | ".Inf" | ".INF" => return Some(Value::Float(f64::INFINITY)),
        ".nan" | ".NaN" | ".NAN" if text == unsigned => return Some(Value::Float(f64::NAN)),
        _ => {}
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits(unsigned) {
        // One that is too large for an integer is too large for everything here, and is shown as what it is.
        let integer = text.parse().map(Value::Integer);
        return integer.or_else(|_| text.parse().map(Value::Float)).ok();
    }
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_float = digits(exponent)
        && (digits(whole) || digits(part))
        && (whole.is_empty() || digits(whole))
        && (part.is_empty() || digits(part));
    if is_float {
        text.parse().map(Value::Float).ok()
    } else {
        None
    }
}

fn integer(digits: &str, radix: u32) -> Option<Value> {
    // `from_str_radix` takes a sign.
    if digits.starts_with(['-', '+']) {
        return None;
    }
    i128::from_str_radix(digits, radix).map(Value::Integer).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_without_quotes() {
        for (text, expected) in [
            ("", "Nothing"),
            ("~", "Nothing"),
            ("null", "Nothing"),
            ("true", "Bool(true)"),
            ("FALSE", "Bool(false)"),
            ("yes", "Text(\"yes\")"),
            ("on", "Text(\"on\")"),
            ("5", "Integer(5)"),
            ("-5", "Integer(-5)"),
            ("+5", "Integer(5)"),
            ("007", "Integer(7)"),
            ("0x1F", "Integer(31)"),
            ("0o17", "Integer(15)"),
            ("0x-1", "Text(\"0x-1\")"),
            ("0xg", "Text(\"0xg\")"),
            ("1_000", "Text(\"1_000\")"),
            ("2.5", "Float(2.5)"),
            ("-.5", "Float(-0.5)"),
            ("5.", "Float(5.0)"),
            ("1e3", "Float(1000.0)"),
            ("1.5E-1", "Float(0.15)"),
            (".", "Text(\".\")"),
            ("1e", "Text(\"1e\")"),
            ("e5", "Text(\"e5\")"),
            ("-", "Text(\"-\")"),
            (".inf", "Float(inf)"),
            ("-.Inf", "Float(-inf)"),
            (".nan", "Float(NaN)"),
            ("-.nan", "Text(\"-.nan\")"),
            ("inf", "Text(\"inf\")"),
            ("nan", "Text(\"nan\")"),
            ("250ms", "Text(\"250ms\")"),
            ("1.2.3", "Text(\"1.2.3\")"),
            ("--5", "Text(\"--5\")"),
        ] {
            assert_eq!(format!("{:?}", plain(text)), expected, "{text:?}");
        }
        assert!(matches!(plain(&"9".repeat(60)), Value::Float(_)));
    }
}
