//! What a client says that it takes (RFC 9110 §12).

/// A quality in thousandths (§12.4.2).
type Quality = u16;

/// A quality that is not given, or not one.
const FULL: Quality = 1000;

/// How much a client that says `accept` likes the media type `kind/subtype`: by the entry that says
/// most about it. 0 if it takes none of it; everything is liked equally by one who says nothing.
pub fn quality_of(accept: Option<&str>, media: &str) -> Quality {
    let Some(accept) = accept else { return FULL };
    let kind = media.split('/').next().unwrap_or_default();
    let mut best = (0, 0);
    for (name, quality) in entries(accept) {
        let says = match name.split_once('/') {
            _ if name.eq_ignore_ascii_case(media) => 3,
            Some((of, "*")) if of.eq_ignore_ascii_case(kind) => 2,
            Some(("*", "*")) => 1,
            _ => continue,
        };
        // Of versions of one type the best counts.
        best = best.max((says, quality));
    }
    best.1
}

/// Whether a client that says `accept_encoding` takes gzip.
pub fn takes_gzip(accept_encoding: Option<&str>) -> bool {
    let Some(accept) = accept_encoding else { return true };
    let quality = |wanted: &str| {
        let mut named = entries(accept).filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        named.next().map(|(_, quality)| quality)
    };
    let gzip = quality("gzip").or_else(|| quality("x-gzip")).or_else(|| quality("*"));
    gzip.is_some_and(|quality| quality > 0)
}

/// Whether a client that says `if_none_match` has what is called `tag` (§13.1.2).
pub fn has(if_none_match: &str, tag: &str) -> bool {
    let mut tags = if_none_match.split(',').map(str::trim);
    tags.any(|other| other == "*" || other.strip_prefix("W/").unwrap_or(other) == tag)
}

/// The names of a list and their qualities.
fn entries(list: &str) -> impl Iterator<Item = (&str, Quality)> {
    list.split(',').map(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| {
            part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")).map(read_quality)
        });
        (name, quality.unwrap_or(FULL))
    })
}

/// `0`, `0.5`, `1.000`.
fn read_quality(text: &str) -> Quality {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if whole != "0" || part.len() > 3 {
        return FULL;
    }
    let digit = |at: usize| part.as_bytes().get(at).map_or(0, |byte| byte.wrapping_sub(b'0'));
    let [a, b, c] = [0, 1, 2].map(digit).map(|digit| u16::from(digit.min(9)));
    a * 100 + b * 10 + c
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_that_says_most_about_a_type_counts() {
        let plain = |accept| quality_of(Some(accept), "text/plain");
        assert_eq!(quality_of(None, "text/plain"), 1000);
        assert_eq!(plain("text/*;q=0.3, text/plain ; version=1 ;q=0.25, */*"), 250);
        assert_eq!(plain("text/*;q=0.3, */*;q=0.9"), 300);
        assert_eq!(plain("image/png, */*;q=0.125"), 125);
        assert_eq!(plain("text/plain;q=0, */*"), 0);
        assert_eq!(plain("image/png"), 0);
        assert_eq!(plain("TEXT/PLAIN;Q=0.5"), 500);
        assert_eq!(plain("text/plain;version=0.0.4;q=0.2, text/plain;version=1.0.0;q=0.6"), 600);
        for odd in ["text/plain;q=", "text/plain;q=2", "text/plain;q=0.1234", "text/plain;q=x"] {
            assert_eq!(plain(odd), 1000, "{odd}");
        }
    }

    #[test]
    fn gzip_is_taken_by_who_says_so_or_nothing() {
        for (says, takes) in [
            (None, true),
            (Some("gzip, deflate, br"), true),
            (Some("deflate, x-gzip;q=0.5"), true),
            (Some("*"), true),
            (Some("*;q=0"), false),
            (Some("gzip;q=0, *"), false),
            (Some("identity"), false),
            (Some(""), false),
        ] {
            assert_eq!(takes_gzip(says), takes, "{says:?}");
        }
    }

    #[test]
    fn a_tag_is_found_among_others_weak_or_not() {
        assert!(has("\"a\", W/\"b\"", "\"b\"") && has("*", "\"b\"") && has("\"b\"", "\"b\""));
        assert!(!has("\"a\"", "\"b\"") && !has("", "\"b\""));
    }
}
