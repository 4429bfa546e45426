//! Formats, and namespaces that come and go.

use super::*;

fn format(bench: &Bench, controller: &Controller<ModelDevice>, target: FormatTarget, size: u32) {
    let settings = FormatSettings::default();
    bench.run(controller.format(target, BlockFormat::Size(size), settings)).unwrap();
    bench.run(controller.rescan()).unwrap();
}

fn shapes(controller: &Controller<ModelDevice>) -> Vec<(u32, u32, u64)> {
    let namespaces = controller.namespaces();
    namespaces.iter().map(|ns| (ns.nsid(), ns.block_size(), ns.blocks())).collect()
}

#[test]
fn a_format_erases_one_namespace_and_changes_its_blocks() {
    let mut ready = Ready::new(managed(|_| ()), 32);
    let data = ready.bench.buffers(&[4096], 0x5a);
    assert!(ready.write(0, data).is_success());
    let target = FormatTarget::Namespace(2);
    format(&ready.bench, &ready.controller, target, 4096);
    assert_eq!(shapes(&ready.controller), [(2, 4096, 256), (9, 4096, 256)]);
    ready.ns = ready.controller.namespaces()[0];
    assert_eq!(ready.read(0, &[4096]).0, [0; 4096]);
    format(&ready.bench, &ready.controller, target, 512);
    assert_eq!(shapes(&ready.controller)[0], (2, 512, 2048));
    assert_eq!(ready.bench.model.violations(), Vec::<String>::new());
}

#[test]
fn all_namespaces_are_formatted_only_if_all_are_asked_for() {
    let bench = Bench::new(managed(|config| config.fna = FormatAttributes::FORMATS_ALL));
    let controller = bench.controller(Options::default());
    let (one, size) = (FormatTarget::Namespace(2), BlockFormat::Size(512));
    assert_eq!(controller.format_reaches(one, SecureErase::None), FormatTarget::All);
    let refused = bench.run(controller.format(one, size, FormatSettings::default()));
    assert_eq!(refused, Err(AdminError::ReachesAll));
    for nsid in [0, NSID_ALL] {
        let named = FormatTarget::Namespace(nsid);
        let refused = bench.run(controller.format(named, size, FormatSettings::default()));
        assert_eq!(refused, Err(AdminError::BadArgument), "{nsid:#x}");
    }
    assert_eq!(shapes(&controller)[1], (9, 4096, 256));
    format(&bench, &controller, FormatTarget::All, 512);
    assert_eq!(shapes(&controller), [(2, 512, 2048), (9, 512, 2048)]);
}

#[test]
fn an_erasure_that_reaches_all_is_told_from_a_format_that_does_not() {
    let bench = Bench::new(managed(|config| config.fna = FormatAttributes::ERASES_ALL));
    let controller = bench.controller(Options::default());
    let one = FormatTarget::Namespace(9);
    assert_eq!(controller.format_reaches(one, SecureErase::None), one);
    assert_eq!(controller.format_reaches(one, SecureErase::UserData), FormatTarget::All);
    let with = |erase| FormatSettings { erase, ..FormatSettings::default() };
    let run = |erase| bench.run(controller.format(one, BlockFormat::Size(512), with(erase)));
    assert_eq!(run(SecureErase::UserData), Err(AdminError::ReachesAll));
    assert_eq!(run(SecureErase::Cryptographic), Err(AdminError::Unsupported));
    assert_eq!(run(SecureErase::None), Ok(()));
}

#[test]
fn a_format_that_there_is_not_is_refused_before_it_is_sent() {
    let bench = Bench::new(managed(|_| ()));
    let controller = bench.controller(Options::default());
    bench.model.inject(admin(AdminOpcode::FORMAT_NVM).every(), Fault::DropCompletion);
    let protected = FormatSettings { protection: 1, ..FormatSettings::default() };
    let plain = FormatSettings::default();
    for (blocks, settings) in [
        (BlockFormat::Index(2), plain),
        (BlockFormat::Size(1024), plain),
        (BlockFormat::Size(0), plain),
        (BlockFormat::Index(0), protected),
    ] {
        let refused = bench.run(controller.format(FormatTarget::Namespace(2), blocks, settings));
        assert_eq!(refused, Err(AdminError::BadArgument), "{blocks:?}");
    }
    let nothing = FormatTarget::Namespace(77);
    let refused = bench.run(controller.format(nothing, BlockFormat::Index(0), plain));
    assert_eq!(refused, Err(AdminError::BadArgument), "no such namespace, hence no format");
}

#[test]
fn a_namespace_is_made_attached_used_detached_and_deleted() {
    let mut ready = Ready::new(managed(|_| ()), 32);
    let nsid = ready.bench.run(ready.controller.create_namespace(100, BlockFormat::Index(1)));
    assert_eq!(nsid, Ok(1), "the first that is free");
    let all = |ready: &Ready| {
        let bench = &ready.bench;
        bench.run(ready.controller.rescan()).unwrap();
        let allocated = bench.run(ready.controller.allocated_namespaces()).unwrap();
        let active = bench.run(ready.controller.attached_namespaces()).unwrap();
        let attached: Vec<u32> =
            ready.controller.namespaces().iter().map(Namespace::nsid).collect();
        assert_eq!(active, attached);
        (allocated, attached)
    };
    assert_eq!(all(&ready), (vec![1, 2, 9], vec![2, 9]));
    assert_eq!(ready.bench.run(ready.controller.controllers_of(1)), Ok(vec![]));
    ready.bench.run(ready.controller.attach_namespace(1)).unwrap();
    assert_eq!(all(&ready), (vec![1, 2, 9], vec![1, 2, 9]));
    assert_eq!(ready.bench.run(ready.controller.controllers_of(1)), Ok(vec![1]));
    assert_eq!(ready.bench.run(ready.controller.controllers()), Ok(vec![1]));
    ready.ns = ready.controller.namespaces()[0];
    let data = ready.bench.buffers(&[4096], 7);
    assert!(ready.write(99, data).is_success());
    ready.bench.run(ready.controller.detach_namespace(1)).unwrap();
    assert!(ready.read(99, &[4096]).1.is(Status::INVALID_NAMESPACE));
    ready.bench.run(ready.controller.attach_namespace(1)).unwrap();
    assert_eq!(ready.read(99, &[4096]).0, [7; 4096], "it has kept its data");
    ready.bench.run(ready.controller.delete_namespace(1)).unwrap();
    assert_eq!(all(&ready), (vec![2, 9], vec![2, 9]));
    assert_eq!(ready.bench.model.violations(), Vec::<String>::new());
}

#[test]
fn what_cannot_be_made_or_attached_ends_as_the_specification_says() {
    let bench = Bench::new(managed(|config| config.nsid_max = 3));
    let controller = bench.controller(Options::default());
    let create = |blocks| bench.run(controller.create_namespace(blocks, BlockFormat::Size(512)));
    assert_eq!(create(0), Err(AdminError::BadArgument));
    assert_eq!(create(u64::MAX), Err(AdminError::BadArgument));
    let left = u128::from(controller.identify().unvmcap) as u64;
    assert_eq!(left, 62 << 20, "two of a MiB each are there");
    expect(create(left / 512 + 1), Status::NAMESPACE_NO_CAPACITY);
    assert_eq!((create(8), create(8)), (Ok(1), Ok(3)));
    expect(create(8), Status::NAMESPACE_NO_IDENTIFIER);
    expect(bench.run(controller.attach_namespace(2)), Status::NAMESPACE_ALREADY_ATTACHED);
    expect(bench.run(controller.detach_namespace(3)), Status::NAMESPACE_NOT_ATTACHED);
    expect(bench.run(controller.attach_namespace(5)), Status::INVALID_NAMESPACE);
    expect(bench.run(controller.delete_namespace(5)), Status::INVALID_NAMESPACE);
    for nsid in [0, NSID_ALL] {
        let refused = bench.run(controller.delete_namespace(nsid));
        assert_eq!(refused, Err(AdminError::BadArgument));
    }
    assert_eq!(bench.run(controller.allocated_namespaces()), Ok(vec![1, 2, 3, 9]));
}
