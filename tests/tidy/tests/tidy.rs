//! The checks on the real tree.

use std::io;

use basalt_tidy::{Problem, Repository, arrows, manifests, style};

/// Fails with every problem on a line of its own.
fn report(problems: impl IntoIterator<Item = Problem>) {
    let lines: Vec<_> = problems.into_iter().map(|problem| problem.to_string()).collect();
    assert!(lines.is_empty(), "{} problem(s):\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn dependencies_point_from_boot_to_runtime_to_drivers_to_the_environment() -> io::Result<()> {
    report(arrows::check(&Repository::open()?.packages()));
    Ok(())
}

#[test]
fn every_external_dependency_is_pinned_exactly() -> io::Result<()> {
    let repository = Repository::open()?;
    report(manifests::unpinned(&repository.file("Cargo.toml")?));
    report(manifests::unpinned_in(&repository.packages()));
    Ok(())
}

#[test]
fn every_crate_inherits_the_lints() -> io::Result<()> {
    let repository = Repository::open()?;
    let mut problems = Vec::new();
    for package in repository.packages() {
        let manifest = repository.file(&format!("{}/Cargo.toml", package.directory))?;
        problems.extend(manifests::lints_not_inherited(&manifest));
    }
    report(problems);
    Ok(())
}

#[test]
fn every_source_file_keeps_the_house_style() -> io::Result<()> {
    let sources = Repository::open()?.sources()?;
    assert!(sources.len() > 20, "the walk over the tree found too little");
    report(sources.iter().flat_map(style::check));
    Ok(())
}

#[test]
fn every_crate_opens_by_saying_what_it_is() -> io::Result<()> {
    let repository = Repository::open()?;
    let mut problems = Vec::new();
    for path in repository.packages().iter().flat_map(|package| &package.roots) {
        problems.extend(style::root_without_head(&repository.file(path)?));
    }
    report(problems);
    Ok(())
}
