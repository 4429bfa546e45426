//! Compresses the page, and says which scripts and styles are its own: a browser runs no others.

use std::env;
use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::{Compression, GzBuilder};
use sha2::{Digest as _, Sha256};

const PAGE: &str = "assets/index.html";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={PAGE}");
    let page = fs::read_to_string(PAGE)?;
    let out = env::var("OUT_DIR")?;
    // Without a name or a time of its own: the same page makes the same bytes.
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    gzip.write_all(page.as_bytes())?;
    fs::write(Path::new(&out).join("index.html.gz"), gzip.finish()?)?;
    println!("cargo:rustc-env=PAGE_TAG=\"{}\"", &digest(&page)[..16].replace(['+', '/'], "-"));
    println!("cargo:rustc-env=PAGE_POLICY={}", policy(&page));
    Ok(())
}

/// What the page may do (Content Security Policy Level 3): run its own scripts, look its own way,
/// and ask the server that it came from.
fn policy(page: &str) -> String {
    let hashes = |element: &str| -> String {
        elements(page, element).map(|text| format!(" 'sha256-{}'", digest(text))).collect()
    };
    let or_none = |list: String| if list.is_empty() { " 'none'".into() } else { list };
    format!(
        "default-src 'none'; connect-src 'self'; img-src data:; script-src{}; style-src{}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        or_none(hashes("script")),
        or_none(hashes("style"))
    )
}

/// The texts of all elements of that name.
fn elements<'a>(page: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}"), format!("</{name}>"));
    let mut rest = page;
    std::iter::from_fn(move || {
        let begin = rest.find(&open)?;
        let begin = begin + rest[begin..].find('>')? + 1;
        let end = begin + rest[begin..].find(&close)?;
        let text = &rest[begin..end];
        rest = &rest[end..];
        Some(text)
    })
}

fn digest(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text.as_bytes()))
}
