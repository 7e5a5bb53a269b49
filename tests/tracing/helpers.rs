//! A subscriber that remembers all spans and events.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// A span that has ended.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    pub name: &'static str,
    pub target: String,
    pub parent: Option<&'static str>,
    /// A field of the parent, to tell several of one name apart.
    pub parent_number: Option<String>,
    pub fields: BTreeMap<&'static str, String>,
    /// What it follows from.
    pub follows: Vec<&'static str>,
}

impl Ended {
    #[track_caller]
    pub fn field(&self, name: &str) -> &str {
        self.fields
            .get(name)
            .unwrap_or_else(|| panic!("no field {name}: {self:?}"))
    }
}

/// An event, and the spans around it from the outermost on.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub fields: BTreeMap<&'static str, String>,
    pub spans: Vec<&'static str>,
}

/// What a subscriber was told. Clones are the same.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    open: HashMap<u64, Ended>,
    /// How often a span was entered, less how often one was left.
    entered: i32,
    ended: Vec<Ended>,
    events: Vec<Told>,
}

impl Seen {
    /// Runs `body` in a thread-local subscriber, and gives what it saw. All calls that `body` makes should be over by then.
    pub fn during(body: impl FnOnce()) -> Self {
        let seen = Self::default();
        seen.on(body);
        seen
    }

    /// Runs `body` in a thread-local subscriber.
    pub fn on<R>(&self, body: impl FnOnce() -> R) -> R {
        let subscriber = tracing_subscriber::registry().with(self.clone());
        tracing::subscriber::with_default(subscriber, body)
    }

    /// The spans of calls that have ended, in that order.
    pub fn calls(&self) -> Vec<Ended> {
        self.all("bulkhead_call")
    }

    /// The only call.
    #[track_caller]
    pub fn call(&self) -> Ended {
        self.only("bulkhead_call")
    }

    /// The spans of this name that have ended, in that order.
    pub fn all(&self, name: &str) -> Vec<Ended> {
        let ended = self.0.lock().unwrap().ended.clone();
        let is_it = |span: &Ended| span.name == name;
        ended.into_iter().filter(is_it).collect()
    }

    /// The only one of this name.
    #[track_caller]
    pub fn only(&self, name: &str) -> Ended {
        let mut found = self.all(name);
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found.remove(0)
    }

    /// How many spans have begun and not ended.
    pub fn open(&self) -> usize {
        self.0.lock().unwrap().open.len()
    }

    /// How often a span was entered, less how often one was left.
    pub fn entered(&self) -> i32 {
        self.0.lock().unwrap().entered
    }

    pub fn events(&self) -> Vec<Told> {
        self.0.lock().unwrap().events.clone()
    }

    /// The spans around the event with this text.
    #[track_caller]
    pub fn around(&self, text: &str) -> Vec<&'static str> {
        let events = self.events();
        let found = events
            .iter()
            .find(|event| event.fields.get("message").is_some_and(|said| said == text));
        found
            .unwrap_or_else(|| panic!("no `{text}` in {events:?}"))
            .spans
            .clone()
    }
}

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Seen {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).expect("it is new");
        let mut state = self.0.lock().unwrap();
        let parent = span
            .parent()
            .and_then(|parent| state.open.get(&parent.id().into_u64()));
        let mut made = Ended {
            name: span.name(),
            target: span.metadata().target().to_owned(),
            parent: parent.map(|parent| parent.name),
            parent_number: parent.and_then(|parent| parent.fields.get("number").cloned()),
            fields: BTreeMap::new(),
            follows: Vec::new(),
        };
        attributes.record(&mut Fields(&mut made.fields));
        state.open.insert(id.into_u64(), made);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut state = self.0.lock().unwrap();
        let made = state.open.get_mut(&id.into_u64()).expect("it is open");
        values.record(&mut Fields(&mut made.fields));
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, _: Context<'_, S>) {
        let mut state = self.0.lock().unwrap();
        let followed = state.open[&follows.into_u64()].name;
        let made = state.open.get_mut(&id.into_u64()).expect("it is open");
        made.follows.push(followed);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut told = Told::default();
        event.record(&mut Fields(&mut told.fields));
        let spans = context.event_scope(event).into_iter();
        told.spans = spans
            .flat_map(|scope| scope.from_root().map(|span| span.name()))
            .collect();
        self.0.lock().unwrap().events.push(told);
    }

    fn on_enter(&self, _: &Id, _: Context<'_, S>) {
        self.0.lock().unwrap().entered += 1;
    }

    fn on_exit(&self, _: &Id, _: Context<'_, S>) {
        self.0.lock().unwrap().entered -= 1;
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        let mut state = self.0.lock().unwrap();
        let ended = state.open.remove(&id.into_u64()).expect("it is open");
        state.ended.push(ended);
    }
}
