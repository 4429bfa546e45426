#![expect(unsafe_code, reason = "the models make blocks of their own")]

extern crate std;

use core::ptr::NonNull;
use std::boxed::Box;
use std::vec::Vec;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::Returns;

/// A block: room for a node, and what its last owner wrote.
#[repr(C, align(512))]
struct Block {
    node: [u8; 16],
    written: UnsafeCell<u32>,
}

fn block() -> &'static Block {
    Box::leak(Box::new(Block { node: [0; 16], written: UnsafeCell::new(0) }))
}

/// Writes to a block of another core and sends it home.
fn use_and_return(returns: &Returns, block: &'static Block, word: u32) {
    // SAFETY: nobody else refers to the block until it is pushed.
    block.written.with_mut(|written| unsafe { *written = word });
    let address = NonNull::from_ref(block).cast();
    // SAFETY: as above; it is large and aligned enough.
    unsafe { returns.push(address, word as u8) };
}

/// Takes all that there is; the orders, each of which is what was written.
fn take_in(returns: &Returns) -> Vec<u8> {
    let mut orders = Vec::new();
    returns.take_all(|block, order| {
        // SAFETY: only blocks are pushed, and a taken one belongs to its taker.
        let block = unsafe { block.cast::<Block>().as_ref() };
        // SAFETY: as above.
        block.written.with(|written| assert_eq!(unsafe { *written }, u32::from(order)));
        // SAFETY: as above; as its owner does, write it: nobody may still look at it.
        block.written.with_mut(|written| unsafe { *written = 0 });
        orders.push(order);
    });
    orders
}

#[test]
fn loom_every_block_comes_home_once_with_what_was_written_to_it() {
    loom::model(|| {
        let returns = Arc::new(Returns::new());
        let others: Vec<_> = [1, 2]
            .into_iter()
            .map(|word| {
                let (returns, block) = (Arc::clone(&returns), block());
                thread::spawn(move || use_and_return(&returns, block, word))
            })
            .collect();
        let mut seen = take_in(&returns);
        for other in others {
            other.join().unwrap();
        }
        seen.extend(take_in(&returns));
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
        assert!(returns.is_empty());
    });
}

#[test]
fn loom_a_block_that_goes_out_again_is_not_mistaken() {
    loom::model(|| {
        let returns = Arc::new(Returns::new());
        let (first, second) = (block(), block());
        use_and_return(&returns, first, 1);
        let other = {
            let returns = Arc::clone(&returns);
            thread::spawn(move || use_and_return(&returns, second, 2))
        };
        // Home takes the first and gives it out again while the second is being linked to it.
        let mut seen = take_in(&returns);
        assert!(seen.contains(&1));
        use_and_return(&returns, first, 3);
        other.join().unwrap();
        seen.extend(take_in(&returns));
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3]);
    });
}
