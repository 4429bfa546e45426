//! The page as browsers get it.

use std::io::Read as _;
use std::string::String;

use flate2::read::GzDecoder;

use crate::page::{PAGE, POLICY};

/// What the image has room for, and what a browser is sent.
const PACKED_BYTES_MAX: usize = 16 << 10;
const BYTES_MAX: usize = 100 << 10;

fn page() -> String {
    let mut page = String::new();
    let read = GzDecoder::new(PAGE).read_to_string(&mut page);
    read.unwrap_or_else(|error| panic!("the page does not unpack: {error}"));
    page
}

#[test]
fn the_page_is_small() {
    let (packed, whole) = (PAGE.len(), page().len());
    assert!(packed <= PACKED_BYTES_MAX, "{packed} bytes in gzip");
    assert!(whole < BYTES_MAX, "{whole} bytes");
}

#[test]
fn the_page_is_whole_and_asks_for_nothing_from_elsewhere() {
    let page = page();
    for part in ["<style>:root{", "<script>'use strict';", "</html>"] {
        assert!(page.contains(part), "no {part}");
    }
    // The namespace of SVG is a name, not an address.
    for (what, count) in [("<script", 1), ("<style", 1), ("://", 1), ("innerHTML", 0), ("eval(", 0)]
    {
        assert_eq!(page.matches(what).count(), count, "{what}");
    }
    for hash in ["script-src 'sha256-", "style-src 'sha256-", "default-src 'none'"] {
        assert!(POLICY.contains(hash), "{POLICY}");
    }
}
