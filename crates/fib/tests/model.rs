//! Random operations through the engine over the twin: forwarding is what a model says, and nothing ever leaks.

mod script;

use fib::{Fib, Twin};
use proptest::prelude::*;
use script::{Op, Script, any_op_without_faults, any_ops};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn forwarding_is_what_was_asked_for_whatever_happens(ops in any_ops(1..120)) {
        let mut script = Script::new(Fib::new(Twin::default()));
        for op in &ops {
            script.run(op)?;
        }
        script.settle()?;
        script.check_final()?;
    }

    #[test]
    fn once_written_any_path_may_die_and_no_route_has_to_be_written(ops in any_ops(1..120), dying in 0..6usize) {
        let mut script = Script::new(Fib::new(Twin::default()));
        for op in &ops {
            script.run(op)?;
        }
        script.flush()?;
        script.survives(dying)?;
    }

    #[test]
    fn a_restart_rewrites_nothing_that_stays_as_it_was(ops in any_op_without_faults(1..80)) {
        let mut script = Script::new(Fib::new(Twin::default()));
        for op in &ops {
            script.run(op)?;
        }
        script.settle()?;
        script.run(&Op::Restart)?;
        let (before, written) = (script.table(), script.written());
        script.replay_desired();
        script.settle()?;
        prop_assert_eq!(script.table(), before);
        prop_assert_eq!(script.written(), written, "routes were written that were right");
        script.run(&Op::Sweep)?;
        script.settle()?;
        script.check_final()?;
    }
}
