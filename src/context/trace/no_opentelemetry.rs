//! Without the feature `opentelemetry`.

#[derive(Default)]
pub(super) struct CallContext(());

#[derive(Default)]
pub(super) struct Attached(());

impl CallContext {
    pub(super) const IS_CARRIED: bool = false;

    pub(super) fn take() -> Self {
        Self(())
    }

    pub(super) const fn is_some(&self) -> bool {
        false
    }

    pub(super) const fn is_quiet(&self) -> bool {
        true
    }

    pub(super) fn discard(self) {}

    pub(super) fn attach(&mut self) -> Attached {
        Attached(())
    }
}

impl Attached {
    pub(super) fn detach(self) {}

    pub(super) const fn is_some(&self) -> bool {
        false
    }
}
