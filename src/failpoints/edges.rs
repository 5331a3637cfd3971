//! Failpoints at the begin and at the end of every step, named `WORK/STEP/begin` and `WORK/STEP/end`,
//! such as `start/basebackup/begin`.
//!
//! `return(TEXT)` fails the step with that text, if the step can fail; `pause` holds it until the
//! failpoint is set to `off`, or the work is abandoned. The log says which failpoint was reached.
//! Every step is entered through [`around`]; in builds without the feature `testing` that is the step alone.

use std::fmt;

use thiserror::Error;

/// A step of a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Point {
    /// The work, such as `start`.
    pub work: &'static str,
    /// The name of the step in the log and in `/status`.
    pub step: &'static str,
}

/// One of the two sides of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    /// Nothing of the step has happened.
    Begin,
    /// The step has succeeded, and nothing follows from that yet.
    End,
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Begin => "begin",
            Self::End => "end",
        })
    }
}

/// The error of a step that `return` fails.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("failpoint {name}: {text}")]
pub(crate) struct Injected {
    name: String,
    text: String,
}

/// Performs the action of the failpoint at this edge.
///
/// # Errors
/// The action is `return`.
pub(crate) async fn reached(point: Point, edge: Edge) -> Result<(), Injected> {
    if !super::ENABLED {
        return Ok(());
    }
    let name = format!("{}/{}/{edge}", point.work, point.step);
    let Some(actions) = super::actions(&name) else { return Ok(()) };
    tracing::warn!("failpoint {name} reached, its actions are {actions:?}");
    match super::hit(name.clone()).await {
        None => Ok(()),
        Some(text) => Err(Injected { name, text }),
    }
}

/// Performs a step between its two failpoints. The step is boxed: steps nest, and an async function
/// holds its argument twice, so that the future of a promotion would not fit a stack.
///
/// # Errors
/// The error of the step, or of a failpoint.
pub(crate) fn around<T, E: From<Injected>>(
    point: Point,
    step: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, E>> {
    let step = Box::pin(step);
    async move {
        reached(point, Edge::Begin).await?;
        let done = step.await?;
        reached(point, Edge::End).await?;
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ENABLED, configure};
    use super::*;

    const POINT: Point = Point { work: "unit", step: "edges" };

    async fn error() -> Option<String> {
        let step = async { Ok::<_, anyhow::Error>(1) };
        around(POINT, step).await.err().map(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_step_fails_at_its_edges() {
        assert_eq!(error().await, None);
        for edge in ["begin", "end"] {
            configure(&format!("unit/edges/{edge}"), "1*return(no)->off").unwrap();
            let injected = format!("failpoint unit/edges/{edge}: no");
            assert_eq!(error().await, ENABLED.then_some(injected));
            assert_eq!(error().await, None, "once");
        }
    }

    /// The error of the step itself comes first.
    #[tokio::test]
    async fn a_step_that_has_failed_has_no_end() {
        configure("unit/failed/end", "return").unwrap();
        let point = Point { step: "failed", ..POINT };
        let failed = async { Err::<(), _>(anyhow::anyhow!("by itself")) };
        assert_eq!(around(point, failed).await.unwrap_err().to_string(), "by itself");
    }
}
