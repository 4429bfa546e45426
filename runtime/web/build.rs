//! Puts the page together from its parts, makes it small, and says which script and style are its
//! own: a browser runs no others.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minifier::{css, js};
use sha2::{Digest as _, Sha256};
use zopfli::{Format, Options};

const ASSETS: &str = "assets";
/// Where style and script go.
const STYLE: &str = "/* page.css */";
const SCRIPT: &str = "/* page.js */";

/// The parts of the script, each of which uses those before it.
const SCRIPTS: [&str; 8] = ["units", "model", "findings", "dom", "plots", "panels", "log", "main"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={ASSETS}");
    let page = page()?;
    let mut packed = Vec::new();
    // Without a name or a time of its own: the same page makes the same bytes.
    zopfli::compress(Options::default(), Format::Gzip, page.as_bytes(), &mut packed)?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("index.html.gz"), packed)?;
    println!("cargo:rustc-env=PAGE_TAG=\"{}\"", &digest(&page)[..16].replace(['+', '/'], "-"));
    println!("cargo:rustc-env=PAGE_POLICY={}", policy(&page));
    Ok(())
}

/// The page with its style and its script within.
fn page() -> Result<String, Box<dyn Error>> {
    let read = |name: &str| fs::read_to_string(Path::new(ASSETS).join(name));
    let style = css::minify(&read("page.css")?)?.to_string();
    let script = SCRIPTS.map(|name| read(&format!("{name}.js")));
    let script = script.into_iter().collect::<Result<String, _>>()?;
    let script = js::minify(&script)?.to_string();
    let page = read("page.html")?;
    for mark in [STYLE, SCRIPT] {
        if page.matches(mark).count() != 1 {
            return Err(format!("page.html has to have one {mark:?}").into());
        }
    }
    Ok(page.replace(STYLE, &style).replace(SCRIPT, &script))
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
