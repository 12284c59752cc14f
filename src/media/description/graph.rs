//! Pipelines as graphs in Graphviz' language, for whoever wants to see what a description says.
//!
//! In here: the text, one graph for each pipeline that a description is built as. Not in here: drawing it.

use gstreamer as gst;
use gstreamer::prelude::*;

use super::report::builds;
use super::{Description, DescriptionError};

impl Description {
    /// A graph for each way in which it is used: elements, their properties that are not the default, their links. An error if
    /// it breaks the contract.
    pub(crate) fn graphs(&self) -> Result<String, DescriptionError> {
        let details = gst::DebugGraphDetails::MEDIA_TYPE
            | gst::DebugGraphDetails::NON_DEFAULT_PARAMS
            | gst::DebugGraphDetails::FULL_PARAMS;
        let graphs = builds(self)?.into_iter().map(|(use_of, pipeline)| {
            // Which is the graph's title.
            pipeline.set_property("name", format!("{}: {use_of}", self.file()));
            let graph = pipeline.debug_to_dot_data(details);
            format!("// {}: {use_of}\n{}\n", self.file(), graph.trim_end())
        });
        Ok(graphs.collect())
    }
}
