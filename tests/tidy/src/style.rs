//! Sources keep the house style. Each check looks at one file.

use crate::{Problem, Source, mask};

/// Longest line, in characters.
const COLUMNS_MAX: usize = 100;
/// Longest function, from `fn` to its closing brace, in lines.
const FUNCTION_LINES_MAX: usize = 70;
/// Longest file, in lines; files that restate a specification may have twice as many.
const FILE_LINES_MAX: usize = 500;

/// Where `unsafe` is at home (DESIGN.md §5), as the beginnings of paths.
const UNSAFE_HOMES: [&str; 6] = [
    "kernel/bare/",
    "kernel/hosted/",
    "kernel/env/",
    "drivers/ring/",
    "runtime/reactor/src/task.rs",
    "boot/image/",
];

/// Every problem of one file.
pub fn check(source: &Source) -> Vec<Problem> {
    let code = mask(&source.text);
    let mut problems = Vec::new();
    problems.extend(too_long(source));
    problems.extend(long_lines(source));
    problems.extend(long_functions(source, &code));
    problems.extend(banned_words(source, &code));
    problems.extend(unsafe_away_from_home(source, &code));
    problems
}

fn problem(source: &Source, line: usize, what: String, remedy: &'static str) -> Problem {
    Problem { file: source.path.clone(), line, what, remedy }
}

fn too_long(source: &Source) -> Option<Problem> {
    let is_specification = source.path.starts_with("drivers/nvme-spec/");
    let max = if is_specification { 2 * FILE_LINES_MAX } else { FILE_LINES_MAX };
    let lines = source.text.lines().count();
    let what = format!("the file has {lines} lines, more than {max}");
    (lines > max).then(|| problem(source, max, what, "split it where its subject divides"))
}

fn long_lines(source: &Source) -> Vec<Problem> {
    let long = |(line, text): (usize, &str)| {
        let columns = text.chars().count();
        let what = format!("the line has {columns} columns, more than {COLUMNS_MAX}");
        (columns > COLUMNS_MAX).then(|| problem(source, line, what, "break it"))
    };
    (1..).zip(source.text.lines()).filter_map(long).collect()
}

/// A function found in masked code: its name, and the lines of `fn` and of its closing brace.
struct Function<'a> {
    name: &'a str,
    first_line: usize,
    last_line: usize,
}

fn long_functions(source: &Source, code: &str) -> Vec<Problem> {
    let too_long = |function: Function<'_>| {
        let Function { name, first_line, last_line } = function;
        let lines = last_line - first_line + 1;
        let what = format!("fn {name} has {lines} lines, more than {FUNCTION_LINES_MAX}");
        let remedy = "name a part of it and move that out";
        (lines > FUNCTION_LINES_MAX).then(|| problem(source, first_line, what, remedy))
    };
    functions(code).into_iter().filter_map(too_long).collect()
}

/// Every function with a body, nested ones included.
fn functions(code: &str) -> Vec<Function<'_>> {
    let line_of = |offset: usize| 1 + code[..offset].matches('\n').count();
    let mut found = Vec::new();
    for (start, _) in code.match_indices("fn ") {
        let before = code[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[start + 3..];
        let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').next();
        let name = name.unwrap_or_default();
        let Some(end) = body_end(rest) else { continue };
        found.push(Function {
            name,
            first_line: line_of(start),
            last_line: line_of(start + 3 + end),
        });
    }
    found
}

/// Where the body of the function whose text follows `fn ` ends; `None` if it has no body.
fn body_end(rest: &str) -> Option<usize> {
    let (mut brackets, mut braces) = (0usize, 0usize);
    for (offset, c) in rest.char_indices() {
        match c {
            '(' | '[' if braces == 0 => brackets += 1,
            ')' | ']' if braces == 0 => brackets = brackets.checked_sub(1)?,
            ';' if brackets == 0 && braces == 0 => return None,
            '{' if brackets == 0 => braces += 1,
            '}' if brackets == 0 => braces = braces.checked_sub(1)?,
            _ => continue,
        }
        if c == '}' && braces == 0 {
            return Some(offset);
        }
    }
    None
}

fn banned_words(source: &Source, code: &str) -> Vec<Problem> {
    let in_code = [
        ("#[allow(", "use #[expect(.., reason = \"..\")] or mend the cause"),
        ("#![allow(", "use #![expect(.., reason = \"..\")] or mend the cause"),
        ("todo!", "write it"),
        ("unimplemented!", "write it, or give a typed error"),
    ];
    // Spelt in two parts, or this file would report itself.
    let anywhere = [concat!("FIX", "ME"), concat!("XX", "X")];
    let mut problems = Vec::new();
    for (line, (text, code)) in (1..).zip(source.text.lines().zip(code.lines())) {
        for (word, remedy) in in_code.iter().filter(|(word, _)| code.contains(word)) {
            problems.push(problem(source, line, format!("`{word}` is not used here"), remedy));
        }
        for word in anywhere.iter().filter(|word| text.contains(**word)) {
            let what = format!("`{word}` marks something unfinished");
            problems.push(problem(source, line, what, "finish it or state the limit plainly"));
        }
    }
    problems
}

fn unsafe_away_from_home(source: &Source, code: &str) -> Vec<Problem> {
    let path = source.path.as_str();
    let is_test =
        path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs");
    if is_test || UNSAFE_HOMES.iter().any(|home| path.starts_with(home)) {
        return Vec::new();
    }
    let lines = (1..).zip(code.lines());
    let remedy = "use a safe abstraction of the crates that DESIGN.md §5 names";
    lines
        .filter(|(_, code)| code.contains("unsafe_code") && !code.contains("forbid(unsafe_code"))
        .map(|(line, _)| problem(source, line, "unsafe code is not at home here".into(), remedy))
        .collect()
}

/// A crate whose root does not open by saying what it is.
pub fn root_without_head(root: &Source) -> Option<Problem> {
    let what = "the crate does not say what it is".to_owned();
    let remedy = "open with `//!`: what it is, key types, neighbours, specification";
    (!root.text.starts_with("//! ")).then(|| problem(root, 1, what, remedy))
}

#[cfg(test)]
mod tests;
