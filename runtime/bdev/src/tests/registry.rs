use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use super::{Cores, Held, info, stored};
use crate::{
    Access, Event, OpenError, RegisterError, Registry, ResizeError, UnregisterError, uuid,
};

#[test]
fn bdevs_are_found_by_name_and_uuid_and_listed_in_order() {
    let registry = Registry::new(1, 7);
    for name in ["b", "a", "c"] {
        Held::register(&registry, name, 1);
    }
    let names: Vec<_> = registry.list().iter().map(|bdev| bdev.info().name.clone()).collect();
    assert_eq!(names, ["b", "a", "c"]);
    let uuid = uuid::format(&registry.get("a").unwrap().info().uuid);
    assert_eq!(registry.get(&uuid).unwrap().info().name, "a");
    assert_eq!(registry.get(&uuid.to_uppercase()).unwrap().info().name, "a");
    assert!(registry.get("d").is_none());
}

#[test]
fn two_bdevs_share_neither_name_nor_uuid_nor_bad_geometry() {
    let registry = Registry::new(1, 7);
    let first = Held::register(&registry, "one", 1);
    let held = |change: &dyn Fn(&mut crate::BdevInfo)| {
        let mut info = info(&registry, "two");
        change(&mut info);
        registry.register(Arc::new(Held { info, depth: 1 }))
    };
    assert_eq!(held(&|info| info.name = String::from("one")), Err(RegisterError::NameTaken));
    assert_eq!(held(&|info| info.name.clear()), Err(RegisterError::NameTaken));
    let uuid = first.info().uuid;
    assert_eq!(held(&|info| info.uuid = uuid), Err(RegisterError::UuidTaken));
    assert_eq!(held(&|info| info.name = uuid::format(&uuid)), Err(RegisterError::NameTaken));
    assert_eq!(held(&|info| info.block_size = 520), Err(RegisterError::BadGeometry));
    assert_eq!(held(&|info| info.block_size = 256), Err(RegisterError::BadGeometry));
    assert_eq!(held(&|info| info.num_blocks = 0.into()), Err(RegisterError::BadGeometry));
    assert_eq!(held(&|info| info.num_blocks = (1 << 60).into()), Err(RegisterError::BadGeometry));
    assert_eq!(held(&|_| {}), Ok(()));
}

#[test]
fn claims_keep_a_second_writer_out() {
    let registry = Registry::new(1, 7);
    Held::register(&registry, "disk", 1);
    let open = |access| registry.open("disk", access);

    let writers = vec![open(Access::ReadWrite).unwrap(), open(Access::ReadWrite).unwrap()];
    assert_eq!(open(Access::Exclusive).unwrap_err(), OpenError::Claimed);
    drop(writers);
    let exclusive = open(Access::Exclusive).unwrap();
    assert!(registry.is_claimed("disk"));
    assert_eq!(open(Access::ReadWrite).unwrap_err(), OpenError::Claimed);
    assert_eq!(open(Access::Exclusive).unwrap_err(), OpenError::Claimed);
    let reader = open(Access::ReadOnly).unwrap();
    let second = exclusive.clone();
    drop(exclusive);
    assert!(registry.is_claimed("disk"), "a clone keeps the claim");
    drop(second);
    assert!(!registry.is_claimed("disk") && registry.is_open("disk"));
    drop(reader);
    assert!(!registry.is_open("disk"));
    assert_eq!(registry.open("other", Access::ReadOnly).unwrap_err(), OpenError::NoSuchBdev);
}

#[test]
fn an_open_bdev_is_not_unregistered_but_can_be_removed() {
    let cores = Cores::new(1);
    let registry = &cores.registry;
    Held::register(registry, "disk", 1);
    assert_eq!(registry.unregister("disc").err(), Some(UnregisterError::NoSuchBdev));
    let open = registry.open("disk", Access::ReadOnly).unwrap();
    assert_eq!(registry.unregister("disk").err(), Some(UnregisterError::Busy));
    registry.remove("disk").unwrap();
    assert!(open.is_removed());
    assert_eq!(open.channel(&cores.core(0)).unwrap_err(), OpenError::Removed);
    assert!(registry.get("disk").is_none());
    Held::register(registry, "disk", 1);
    registry.unregister("disk").unwrap();
    assert!(registry.list().is_empty());
}

#[test]
fn listeners_hear_of_every_change_and_may_use_the_registry() {
    let registry = Rc::new(Registry::new(1, 7));
    let heard = Rc::new(RefCell::new(Vec::new()));
    let (log, table) = (Rc::clone(&heard), Rc::downgrade(&registry));
    registry.subscribe(move |event| {
        let (what, bdev) = match event {
            Event::Registered(bdev) => ("new", bdev),
            Event::Resized(bdev, _) => ("size", bdev),
            Event::Removed(bdev) => ("gone", bdev),
        };
        let listed = table.upgrade().unwrap().list().len();
        log.borrow_mut().push((what, bdev.info().name.clone(), listed));
    });
    Held::register(&registry, "a", 1);
    Held::register(&registry, "b", 1);
    registry.remove("a").unwrap();
    registry.unregister("b").unwrap();
    let a = || String::from("a");
    let b = || String::from("b");
    assert_eq!(
        *heard.borrow(),
        [("new", a(), 1), ("new", b(), 2), ("gone", a(), 1), ("gone", b(), 0)]
    );
}

#[test]
fn made_up_uuids_differ_and_have_version_8() {
    let (one, other) = (Registry::new(1, 7), Registry::new(1, 8));
    let uuids = [one.make_uuid("a"), one.make_uuid("a"), one.make_uuid("b"), other.make_uuid("a")];
    for (i, uuid) in uuids.iter().enumerate() {
        assert_eq!((uuid[6] >> 4, uuid[8] >> 6), (8, 0b10));
        assert!(!uuids[..i].contains(uuid));
    }
    assert_eq!(Registry::new(1, 7).make_uuid("a"), uuids[0], "a seed repeats");
}

#[test]
fn uuids_survive_their_text_form() {
    let text = "2ad3cf6c-9f1b-4a9e-8a77-0123456789ab";
    assert_eq!(uuid::format(&uuid::parse(text).unwrap()), text);
    for bad in
        ["", "2ad3cf6c9f1b4a9e8a770123456789ab", &text[1..], "zad3cf6c-9f1b-4a9e-8a77-0123456789ab"]
    {
        assert_eq!(uuid::parse(bad), None);
    }
    assert_eq!(uuid::parse("2ad3cf6--9f1b-4a9e-8a77-0123456789ab"), None);
    assert_eq!(uuid::parse("2ad3cf6é-f1b-4a9e-8a77-0123456789ab"), None);
}

#[test]
fn a_bdev_may_grow_while_it_is_open_and_shrink_when_it_is_not() {
    let registry = Rc::new(Registry::new(1, 7));
    Held::register(&registry, "a", 1);
    let heard = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&heard);
    registry.subscribe(move |event| {
        if let Event::Resized(bdev, before) = event {
            log.borrow_mut().push((*before, bdev.info().num_blocks.get()));
        }
    });
    let open = registry.open("a", Access::ReadOnly).unwrap();
    registry.resize("a", 2000).unwrap();
    assert_eq!(registry.resize("a", 1999), Err(ResizeError::Busy));
    registry.resize("a", 2000).unwrap();
    drop(open);
    registry.resize("a", 10).unwrap();
    assert_eq!(registry.resize("a", 0), Err(ResizeError::BadGeometry));
    assert_eq!(registry.resize("a", 1 << 60), Err(ResizeError::BadGeometry));
    assert_eq!(registry.resize("b", 1), Err(ResizeError::NoSuchBdev));
    assert_eq!(*heard.borrow(), [(1000, 2000), (2000, 10)]);
}

#[test]
fn writers_that_share_a_key_keep_others_out() {
    let registry = Registry::new(1, 0);
    stored(&registry, "disk", &[0; 512]);
    let open = |access| registry.open("disk", access);
    let plain = open(Access::ReadWrite).unwrap();
    assert_eq!(open(Access::Shared(7)).unwrap_err(), OpenError::Claimed);
    drop(plain);
    let both = [(); 2].map(|()| open(Access::Shared(7)).unwrap());
    for other in [Access::Shared(8), Access::ReadWrite, Access::Exclusive, Access::Unchanging] {
        assert_eq!(open(other).unwrap_err(), OpenError::Claimed, "{other:?}");
    }
    assert!(open(Access::ReadOnly).is_ok());
    let [one, other] = both;
    assert!(one.allows(crate::Op::Write));
    drop(one);
    assert_eq!(registry.claim("disk"), Some(Access::Shared(7)), "until the last of them goes");
    drop(other);
    assert_eq!(registry.claim("disk"), None);
    assert!(open(Access::Exclusive).is_ok());
}

#[test]
fn who_reads_what_must_not_change_keeps_writers_out() {
    let registry = Registry::new(1, 0);
    stored(&registry, "disk", &[0; 512]);
    let open = |access| registry.open("disk", access);
    let reader = open(Access::ReadOnly).unwrap();
    let [one, other] = [(); 2].map(|()| open(Access::Unchanging).unwrap());
    assert!(!one.allows(crate::Op::Write) && one.allows(crate::Op::Read));
    for writer in [Access::Shared(8), Access::ReadWrite, Access::Exclusive] {
        assert_eq!(open(writer).unwrap_err(), OpenError::Claimed, "{writer:?}");
    }
    assert_eq!(registry.claim("disk").and_then(Access::claim_type), Some("read_many_write_none"));
    drop((one, reader));
    assert_eq!(open(Access::ReadWrite).unwrap_err(), OpenError::Claimed);
    drop(other);
    let writer = open(Access::ReadWrite).unwrap();
    assert_eq!(registry.claim("disk"), None, "it keeps nobody out who writes as well");
    assert_eq!(open(Access::Unchanging).unwrap_err(), OpenError::Claimed);
    drop(writer);
    assert!(registry.unregister("disk").is_ok());
}
