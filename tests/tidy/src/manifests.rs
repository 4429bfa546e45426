//! Versions are pinned in one place, and every crate inherits the workspace's lints.

use crate::{Package, Problem, Source};

const PIN: &str = "pin it exactly, as in `name = \"=1.2.3\"`";

/// Dependencies in the root manifest whose version is not exact.
pub fn unpinned(root: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut section = "";
    for (line, text) in (1..).zip(root.text.lines()) {
        let text = text.trim();
        if text.starts_with('[') {
            section = text;
            continue;
        }
        let Some((name, value)) = text.split_once('=') else { continue };
        let wanted = section == "[workspace.dependencies]"
            || (section.starts_with("[workspace.dependencies.") && name.trim() == "version");
        if !wanted || text.starts_with('#') || value.contains("path =") || is_exact(name, value) {
            continue;
        }
        let what = format!("the version of `{}` is not exact", name.trim());
        problems.push(Problem { file: root.path.clone(), line, what, remedy: PIN });
    }
    problems
}

/// Whether the version in `name = value` begins with `=`.
fn is_exact(name: &str, value: &str) -> bool {
    if name.trim().ends_with(".workspace") {
        return true;
    }
    let version = match value.split_once("version") {
        Some((_, version)) => version.trim_start().trim_start_matches('='),
        None => value,
    };
    version.trim_start().starts_with("\"=")
}

/// Dependencies of any crate whose requirement, inherited or not, is not exact.
pub fn unpinned_in(packages: &[Package]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for package in packages {
        let external = package.dependencies.iter().filter(|d| d.directory.is_none());
        for dependency in external.filter(|d| !d.requirement.starts_with('=')) {
            problems.push(Problem {
                file: format!("{}/Cargo.toml", package.directory),
                line: 1,
                what: format!("`{}` is required as `{}`", dependency.name, dependency.requirement),
                remedy: "take it from [workspace.dependencies] with `workspace = true`",
            });
        }
    }
    problems
}

/// A manifest that does not take its lints from the workspace.
pub fn lints_not_inherited(manifest: &Source) -> Option<Problem> {
    let mut lines = manifest.text.lines().map(str::trim);
    let inherits = lines.any(|line| line == "[lints]") && lines.next() == Some("workspace = true");
    (!inherits).then(|| Problem {
        file: manifest.path.clone(),
        line: 1,
        what: "the workspace's lints do not apply".into(),
        remedy: "add `[lints]` followed by `workspace = true`",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dependency, Kind};

    fn manifest(text: &str) -> Source {
        Source { path: "Cargo.toml".into(), text: text.into() }
    }

    #[test]
    fn exact_versions_and_paths_pass() {
        let text = "[workspace.dependencies]\n# a = \"1\"\na = { path = \"a\" }\nb = \"=1.2.3\"\n\
                    c = { version = \"=0.1.0\", features = [] }\n[profile.dev]\nopt-level = 1\n";
        assert_eq!(unpinned(&manifest(text)), []);
    }

    #[test]
    fn a_version_that_may_move_is_reported_with_its_line() {
        for version in ["\"1.2.3\"", "{ version = \"^1\" }", "\"*\"", "{ git = \"https://x\" }"] {
            let text = format!("[workspace.dependencies]\nok = \"=1.0.0\"\nbad = {version}\n");
            let problems = unpinned(&manifest(&text));
            assert_eq!(problems.len(), 1, "{version}");
            assert_eq!(problems[0].line, 3);
        }
        let table = "[workspace.dependencies.bad]\nversion = \"1\"\nfeatures = []\n";
        assert_eq!(unpinned(&manifest(table)).len(), 1);
    }

    #[test]
    fn a_crate_that_brings_its_own_version_is_reported() {
        let dependency = |requirement: &str| Dependency {
            name: "log".into(),
            kind: Kind::Normal,
            directory: None,
            requirement: requirement.into(),
        };
        let package = Package {
            directory: "drivers/x".into(),
            dependencies: vec![dependency("=0.4.1"), dependency("^0.4")],
            roots: Vec::new(),
        };
        let problems = unpinned_in(&[package]);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].what.contains("^0.4"));
    }

    #[test]
    fn a_manifest_without_the_workspace_lints_is_reported() {
        assert_eq!(lints_not_inherited(&manifest("[lints]\nworkspace = true\n")), None);
        assert!(lints_not_inherited(&manifest("[package]\nname = \"x\"\n")).is_some());
        assert!(lints_not_inherited(&manifest("[lints.rust]\nunsafe_code = \"warn\"\n")).is_some());
    }
}
