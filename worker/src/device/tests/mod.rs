//! The device's thread: cancelling, sharing, memory, and how it ends.

mod catalog;
mod room;
mod slow;

use std::sync::atomic::Ordering;

use ovis_protocol::{EncodeRequest, ErrorCode};

use crate::jobs::{Event, Health, Work};
use crate::pipeline::{Ask, Budget};
use slow::Device;

#[test]
fn a_cancel_within_an_operation_is_answered_at_once_and_frees_the_device() {
    let device = Device::unbounded();
    device.decode(1, 1).unwrap();
    device.wait("the start", |device| device.started(1));
    device.cancel(1);
    assert_eq!(device.ends(1), ["cancelled"]);
    // The first decode was never let go on, and yet the next one runs.
    device.decode(2, 1).unwrap();
    device.wait("the next start", |device| device.started(2));
    device.go_on(1);
    device.wait("the next end", |device| device.ends(2) == ["done"]);
    assert_eq!(device.ends(1), ["cancelled"], "a job ends once");
}

#[test]
fn any_of_several_active_jobs_is_cancelled_at_once_and_gives_its_memory_back() {
    let device = Device::new(Budget::OneMemory(Some(40)));
    for (number, steps) in [(1, 30), (2, 20), (3, 10)] {
        device.denoise(number, 4, steps).unwrap();
        device.wait("the start", |device| {
            device.go_on(1);
            device.started(number)
        });
    }
    device.cancel(2);
    assert_eq!(device.ends(2), ["cancelled"]);
    // Its memory is released after one more step of any job at the latest.
    device.go_on(2);
    device.wait("room for a job as large as all its memory", |device| {
        device.go_on(1);
        device.denoise(4, 7, 5).is_ok()
    });
    assert!(device.ends(1).is_empty() && device.ends(3).is_empty());
    device.go_on(200);
    for number in [1, 3, 4] {
        device.wait("the rest", |device| device.ends(number) == ["done"]);
    }
}

#[test]
fn the_uuid_of_a_cancelled_job_is_free_while_the_device_still_works() {
    let device = Device::unbounded();
    device.decode(1, 1).unwrap();
    device.wait("the start", |device| device.started(1));
    device.cancel(1);
    device.decode(1, 1).unwrap();
    device.wait("both ends", |device| {
        device.go_on(1);
        device.ends(1) == ["cancelled", "done"]
    });
}

#[test]
fn a_job_that_can_never_fit_is_refused_and_one_that_does_not_fit_now_is_told_so() {
    let device = Device::new(Budget::OneMemory(Some(30)));
    let never = device.decode(1, 11).unwrap_err();
    assert_eq!(never.code, ErrorCode::OutOfMemory);
    assert!(never.message.contains("33 bytes") && never.message.contains("30 bytes"));
    assert_eq!(never.hint, "A batch of 10 at this size would fit.");
    device.decode(2, 6).unwrap();
    let now = device.decode(3, 9).unwrap_err();
    assert_eq!(now.code, ErrorCode::QueueFull);
    device.go_on(1);
    device.wait("the end", |device| device.ends(2) == ["done"]);
    device.wait("its memory", |device| device.decode(3, 9).is_ok());
}

#[test]
fn jobs_share_the_device_only_where_both_fit() {
    // Each job keeps 10 and takes 10 more in a step. Its tensors take another 10.
    let device = Device::new(Budget::OneMemory(Some(49)));
    device.denoise(1, 10, 3).unwrap();
    device.wait("the start", |device| device.started(1));
    device.denoise(2, 10, 1).unwrap();
    device.go_on(2);
    device.wait("two steps", |device| {
        let events = device.events.events.lock().unwrap();
        let steps = events
            .iter()
            .filter(|(_, event)| matches!(event, Event::Progress(..)));
        steps.count() == 2
    });
    assert!(
        !device.started(2),
        "30 for two jobs between steps, 10 for a step, 20 of tensors"
    );
    device.go_on(2);
    device.wait("both", |device| {
        device.ends(1) == ["done"] && device.ends(2) == ["done"]
    });
}

#[test]
fn abandoned_jobs_fail_within_their_step() {
    let device = Device::unbounded();
    device.denoise(1, 1, 3).unwrap();
    device.wait("the start", |device| device.started(1));
    device.jobs.stop();
    device.jobs.abandon();
    assert_eq!(device.ends(1), ["shutting-down"]);
    device.wait("the thread's end", |device| {
        device.jobs.health() == Health::Ended
    });
    assert_eq!(device.ends(1), ["shutting-down"]);
}

#[test]
fn a_lost_device_ends_the_thread() {
    let device = Device::unbounded();
    device.denoise(1, 1, 3).unwrap();
    device.wait("the start", |device| device.started(1));
    device.decode(2, 1).unwrap();
    device.is_lost.store(true, Ordering::Relaxed);
    device.wait("the thread's end", |device| {
        device.jobs.health() == Health::Ended
    });
    assert_eq!(device.ends(1), ["internal"]);
    assert_eq!(device.ends(2), ["shutting-down"]);
    assert!(device.decode(3, 1).is_err());
}

#[test]
fn a_result_that_is_not_finite_is_an_error() {
    let device = Device::unbounded();
    let ask = Ask::Encode {
        prompts: &[],
        max_sequence_length: 1,
        adapters: &[],
    };
    let admitted = device.admit(1, ask).unwrap();
    let request = EncodeRequest {
        prompts: vec![String::new()],
        max_sequence_length: 1,
        adapters: vec![],
    };
    let work = Work::Encode(request);
    device.submit(1, admitted, work).unwrap();
    device.wait("the end", |device| device.ends(1) == ["internal"]);
}
