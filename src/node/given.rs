//! The spec as a request finds it.

use std::sync::Arc;

use super::{ComputeNode, WrongStatus};
use crate::spec::ParsedSpec;

impl ComputeNode {
    /// The spec in force, for a request that is legal in every status that has one. Both are read at
    /// once, so that a refusal names a status in which there was no spec.
    ///
    /// # Errors
    /// There is no spec yet.
    pub fn require_spec(&self) -> Result<Arc<ParsedSpec>, WrongStatus> {
        let state = self.lock();
        self.spec().ok_or(WrongStatus(state.status))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::node::ComputeParams;
    use crate::os::children::Children;
    use crate::spec::wire::ComputeSpec;
    use crate::state::{ComputeStatus, Event};
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::sink::LogSink;

    /// Long enough for a thread to begin.
    const MOMENT: Duration = Duration::from_millis(100);

    #[test]
    fn a_spec_that_comes_at_the_same_time_is_seen_with_its_status() {
        let spec: ComputeSpec = serde_json::from_value(json!({
            "format_version": 1.0, "suspend_timeout_seconds": -1,
            "cluster": {"roles": [], "databases": []},
            "tenant_id": "f9ddaa608f8785cbabc1fd5fd652b865",
            "timeline_id": "0d5fa912d882faf89d456adb9d001240",
            "pageserver_connstring": "postgres://no_user@127.0.0.1:6400",
            "safekeeper_connstrings": ["a:1"]
        }))
        .unwrap();
        let params = ComputeParams::for_tests();
        let spec = params.accept(ParsedSpec::try_from(spec).unwrap()).unwrap();
        let log = LogSink::new(std::io::sink()).unwrap();
        let metrics = Metrics::new().unwrap();
        let node = ComputeNode::new(params, None, Children::new(), log, metrics).0;
        assert_eq!(node.require_spec().unwrap_err(), WrongStatus(ComputeStatus::Empty));

        let (sender, receiver) = channel();
        std::thread::scope(|scope| {
            let mut state = node.lock();
            scope.spawn(|| sender.send(node.require_spec().map(|_| ())));
            // It waits for the lock.
            assert_eq!(receiver.recv_timeout(MOMENT), Err(RecvTimeoutError::Timeout));
            node.apply_locked(&mut state, Event::Configure).unwrap();
            node.set_spec(&spec);
        });
        assert_eq!(receiver.recv().unwrap(), Ok(()));
    }
}
