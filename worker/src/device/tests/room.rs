//! Weights that leave a GPU for a job, and come back.

use ovis_protocol::ErrorCode;

use super::catalog::Machine;
use crate::device::room::Room;
use crate::device::Retention;
use crate::pipeline::Cost;

fn needing(bytes: u64) -> Cost {
    Cost {
        working: bytes,
        ..Cost::default()
    }
}

#[test]
fn a_job_that_finds_too_little_memory_gets_that_of_weights() {
    let machine = Machine::with(100);
    let mut models = machine.catalog(Retention::default());
    machine.events();
    let mut room = Room::default();
    // A CPU has no such memory.
    room.make(&mut models, "a", needing(1 << 40)).unwrap();
    assert_eq!(machine.events(), "");

    let mut room = Room::default();
    machine.gpu.set(Some(30));
    room.make(&mut models, "a", needing(30)).unwrap();
    assert_eq!(machine.events(), "");
    // Another program takes 6 bytes.
    machine.gpu.set(Some(24));
    room.make(&mut models, "a", needing(30)).unwrap();
    assert_eq!(
        (machine.events().as_str(), models.movable()),
        ("a gives 6", 10)
    );
    // It takes all of them.
    machine.gpu.set(Some(0));
    let error = room.make(&mut models, "a", needing(30)).unwrap_err();
    assert_eq!(error.code, ErrorCode::OutOfMemory);
    assert_eq!(machine.events(), "a gives 30");
    // It gives them back: the room of the largest job stays free.
    machine.gpu.set(Some(55));
    room.settle(&mut models);
    assert_eq!(machine.events(), "a takes 25");
}
