//! Several policies around a call, as one.
//!
//! | file | job |
//! |---|---|
//! | `builder`, `order` | how a pipeline is built, and which orders make sense |
//! | `layer` | what each layer does around those inside of it |
//! | `run` | the pipeline, and the call inside all layers, on a worker or in the caller's thread |
//! | `values` | the types of value that its calls may have: any, or one |
//! | `result`, `times`, `error` | what a call gives |
//! | `ledger`, `stats` | what is counted of all calls |

mod builder;
mod error;
mod layer;
mod ledger;
mod order;
mod result;
mod run;
mod stats;
mod times;
mod values;

pub use builder::{PipelineBuilder, PipelineBulkhead};
pub use error::{PipelineBuildError, PipelineError};
pub(crate) use ledger::PipelineLedger;
pub use order::LayerKind;
pub(crate) use result::Listener as PipelineListener;
pub use result::{PipelineEvent, PipelineResult};
pub(crate) use run::{CallLimits, CallSettings};
pub use run::{Pipeline, Place};
pub use stats::PipelineStats;
pub use values::{AnyValue, Gives, Only, Values};
