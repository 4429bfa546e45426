use super::*;

fn at(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.into() }
}

fn found(path: &str, text: &str) -> Vec<String> {
    check(&at(path, text)).iter().map(ToString::to_string).collect()
}

/// A function of so many lines, with braces in its signature's neighbourhood to trip over.
fn function_of(lines: usize) -> String {
    let body = "    x();\n".repeat(lines - 5);
    format!("fn long(a: [u8; 3]) -> u8\nwhere\n    A: B,\n{{\n{body}}}\n")
}

#[test]
fn a_clean_file_has_no_problem() {
    assert_eq!(found("drivers/x/src/lib.rs", "//! x\nfn f() {\n    g();\n}\n"), [""; 0]);
}

#[test]
fn a_file_over_five_hundred_lines_is_reported_but_a_specification_may_have_a_thousand() {
    let (longest, longer) = ("x\n".repeat(500), "x\n".repeat(501));
    assert_eq!(found("drivers/x/a.rs", &longest), [""; 0]);
    assert!(
        found("drivers/x/a.rs", &longer)[0].starts_with("drivers/x/a.rs:500: the file has 501")
    );
    assert_eq!(found("drivers/nvme-spec/src/a.rs", &"x\n".repeat(1_000)), [""; 0]);
    assert_eq!(found("drivers/nvme-spec/src/a.rs", &"x\n".repeat(1_001)).len(), 1);
}

#[test]
fn a_line_over_a_hundred_characters_is_reported_with_its_number() {
    let longest = "é".repeat(100);
    assert_eq!(found("a.rs", &longest), [""; 0]);
    let problems = found("a.rs", &format!("fine\n{longest}é\n"));
    assert_eq!(problems, ["a.rs:2: the line has 101 columns, more than 100; break it"]);
}

#[test]
fn a_function_over_seventy_lines_is_reported_where_it_begins() {
    assert_eq!(found("a.rs", &function_of(70)), [""; 0]);
    let problems = found("a.rs", &format!("\n{}", function_of(71)));
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("a.rs:2: fn long has 71 lines"), "{problems:?}");
}

#[test]
fn braces_in_text_and_functions_without_a_body_do_not_confuse_the_count() {
    let code = "trait T { fn a(&self, f: fn(u8)) -> [u8; 4]; fn b() { \"{{{\"; '{'; /* { */ } }\n";
    let masked = mask(code);
    let names: Vec<_> = functions(&masked).iter().map(|f| (f.name, f.last_line)).collect();
    assert_eq!(names, [("b", 1)]);
}

#[test]
fn a_nested_function_is_counted_on_its_own() {
    let code = "fn outer() {\n    fn inner() {\n    }\n}\n";
    let lines: Vec<_> =
        functions(code).iter().map(|f| (f.name, f.first_line, f.last_line)).collect();
    assert_eq!(lines, [("outer", 1, 4), ("inner", 2, 3)]);
}

#[test]
fn lint_exceptions_without_a_reason_and_unwritten_code_are_reported() {
    for code in ["#[allow(dead_code)]", "#![allow(x)]", "todo!()", "unimplemented!(\"x\")"] {
        assert_eq!(found("a.rs", code).len(), 1, "{code}");
        assert_eq!(found("a.rs", &format!("// {code}\nlet s = \"{}\";", "#[allow(")), [""; 0]);
    }
}

#[test]
fn marks_of_unfinished_work_are_reported_even_in_comments() {
    for mark in [concat!("FIX", "ME"), concat!("XX", "X")] {
        assert_eq!(found("a.rs", &format!("// {mark}: later")).len(), 1);
    }
}

#[test]
fn unsafe_code_is_reported_outside_its_homes_and_tests() {
    let code = "#![expect(unsafe_code, reason = \"fast\")]";
    for home in
        ["kernel/env/src/mmio.rs", "drivers/ring/src/spsc.rs", "runtime/reactor/src/task.rs"]
    {
        assert_eq!(found(home, code), [""; 0]);
    }
    for test in ["drivers/nvme/src/tests.rs", "drivers/nvme/tests/a.rs", "tests/sim/src/lib.rs"] {
        assert_eq!(found(test, code), [""; 0]);
    }
    for away in
        ["drivers/nvme/src/lib.rs", "runtime/reactor/src/local.rs", "boot/runner/src/main.rs"]
    {
        assert_eq!(found(away, code).len(), 1, "{away}");
        assert_eq!(found(away, "// unsafe_code is not for us"), [""; 0]);
        assert_eq!(found(away, "#![forbid(unsafe_code)]"), [""; 0]);
    }
}

#[test]
fn a_crate_that_does_not_open_with_its_description_is_reported() {
    assert_eq!(root_without_head(&at("a/src/lib.rs", "//! It is.\n#![no_std]\n")), None);
    assert!(root_without_head(&at("a/src/lib.rs", "#![no_std]\n//! It is.\n")).is_some());
    assert!(root_without_head(&at("a/src/lib.rs", "")).is_some());
}
