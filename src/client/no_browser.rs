//! The server's double of the browser: the same functions, inert. Effects and event handlers, which are all that calls most of
//! them, do not run on the server.

use crate::error::{AppError, ErrorCode};
use leptos::prelude::use_context;
use leptos::text_prop::TextProp;
use leptos::web_sys;

/// How a moment is written for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeStyle {
    /// Day and time.
    DayAndTime,
    /// The time alone where the moment is today, the day otherwise.
    Short,
}

/// Milliseconds since 1970; there is no clock in a view on the server.
pub fn now_ms() -> f64 {
    0.0
}

/// The title of the page at hand, read now. `leptos_meta` reads titles when the page is otherwise done, and by then the thread may
/// hold another request's signals, so that a title read there would be the other page's or end in a panic.
pub fn title(text: impl Fn() -> String) -> TextProp {
    text().into()
}

/// A text as it is written into a page's `<title>`.
pub fn title_text(text: String) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The moment in the person's zone and language: not known here.
pub fn local_time(_rfc3339: &str, _style: TimeStyle) -> Option<String> {
    None
}

/// Minutes east of UTC: not known here.
pub fn utc_offset_minutes() -> Option<i32> {
    None
}

/// What the browser's storage holds under `key`: nothing here.
pub fn stored(_key: &str) -> Option<String> {
    None
}

/// Stores a value, or removes it; false when that is not possible.
pub fn store(_key: &str, _value: Option<&str>) -> bool {
    false
}

/// The keys of the browser's storage that begin with `prefix`: none here.
pub fn stored_keys(_prefix: &str) -> Vec<String> {
    Vec::new()
}

/// Whether tabs can keep a thing from each other.
pub fn has_claims() -> bool {
    false
}

/// Claims a name for this tab; there are no others here.
pub fn claim(_name: &str) -> impl Future<Output = bool> + use<> {
    std::future::ready(true)
}

/// Lets go of everything that [`claim`] holds.
pub fn release_claims() {}

/// Lets go of what [`claim`] holds under this name.
pub fn release_claim(_name: &str) {}

/// The name of this visit: there is none here.
pub fn visit_name() -> String {
    String::new()
}

/// What stands in the field with this id: nothing here.
pub fn value_of(_id: &str) -> String {
    String::new()
}

/// The `content` of the `<meta>` of this name.
pub fn meta(_name: &str) -> Option<String> {
    None
}

/// Whether the page cannot be seen now.
pub fn is_hidden() -> bool {
    false
}

/// Waits.
pub async fn sleep(_ms: u32) {}

/// Waits, at most until the browser says that it is connected again.
pub async fn sleep_or_online(_ms: u32) {}

/// Calls `handler` again and again, for the life of the page.
pub fn every(_ms: u32, _handler: impl Fn() + 'static) {}

/// Sends JSON and returns the body of the answer.
///
/// # Errors
/// Always, here.
pub async fn post(_path: &str, _body: String) -> Result<String, AppError> {
    Err(unreachable_server())
}

/// Whether the server answers: it is here.
pub async fn is_server_there(_patience_ms: u32) -> bool {
    true
}

/// Sends JSON in a way that outlives the page.
pub fn post_on_exit(_path: &str, _body: String) {}

/// Sends JSON and returns the answer as it arrives.
///
/// # Errors
/// Always, here.
pub async fn open_stream(_path: &str, _body: String) -> Result<ByteStream, AppError> {
    Err(unreachable_server())
}

/// Ends the stream that was opened last.
pub fn abort_stream() {}

/// An answer that is arriving; dropping it cancels it.
pub struct ByteStream(());

impl ByteStream {
    /// The next bytes; `None` at the end and when the connection breaks.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        None
    }
}

/// Calls `heard` with each text that another tab of this site says.
pub fn listen_to_tabs(_heard: impl Fn(String) + 'static) {}

/// Says a text to the other tabs of this site.
pub fn tell_tabs(_text: &str) {}

/// Calls `handler` at each such event of the window, for the life of the page.
pub fn on_window(_event: &'static str, _handler: impl Fn() + 'static) {}

/// Calls `handler` at each such event of the document, for the life of the page.
pub fn on_document(_event: &'static str, _handler: impl Fn() + 'static) {}

/// Puts a text on the clipboard; false when the browser does not allow it.
pub async fn copy(_text: String) -> bool {
    false
}

/// Sets or removes an attribute of `<html>`.
pub fn set_root_attribute(_name: &str, _value: Option<&str>) {}

/// Copies the text of the code block whose copy button was clicked; whether it was such a click.
pub fn copy_clicked_code(_event: &web_sys::MouseEvent) -> bool {
    false
}

/// Moves the focus among the elements of `container` that match `selector`, `delta` places on.
pub fn move_focus(_container: &web_sys::Element, _selector: &str, _delta: i32) {}

/// Gives the focus to the element with this id; whether there is one.
pub fn focus_id(_id: &str) -> bool {
    false
}

/// Selects what stands in the field with this id.
pub fn select_field(_id: &str) {}

/// Activates the link or button with this id, as a click does; whether there is one.
pub fn click_id(_id: &str) -> bool {
    false
}

/// The id of the element that has the focus.
pub fn focused_id() -> Option<String> {
    None
}

/// Whether something of the element with this id is in view within the element that scrolls it.
pub fn is_in_view(_id: &str, _scroller: &web_sys::Element) -> bool {
    false
}

/// Scrolls as little as is needed to have the element with this id in view.
pub fn bring_into_view(_id: &str) {}

/// Closes a dialog at a click beside it.
pub fn close_at_click_beside(_dialog: &web_sys::HtmlDialogElement) {}

/// Whether the element with this id has the focus.
pub fn has_focus(_id: &str) -> bool {
    false
}

/// Gives the focus to the button of this name in a turn.
pub fn focus_button_of_turn(_turn: &str, _name: &str) {}

/// Whether the person points with something exact.
pub fn has_fine_pointer() -> bool {
    false
}

/// Whether the event comes from a field in which one types.
pub fn is_typing(_event: &web_sys::KeyboardEvent) -> bool {
    false
}

/// Whether a word is being composed: nobody types here.
pub fn is_composing(_event: &web_sys::KeyboardEvent) -> bool {
    false
}

/// Whether something is open above the page: nothing here.
pub fn is_something_open() -> bool {
    false
}

/// Calls `handler` when an element gets another size.
pub fn on_resize(_element: &web_sys::Element, _handler: Box<dyn Fn()>) -> impl FnOnce() + use<> {
    || ()
}

/// Scrolls an element to its end.
pub fn scroll_to_end(_element: &web_sys::Element) {}

/// Whether an element is scrolled to its end, or nearly.
pub fn is_at_end(_element: &web_sys::Element) -> bool {
    true
}

/// Keeps what is in view where it is.
pub fn hold_view(_scroller: &web_sys::Element) -> impl FnOnce() + use<> {
    || ()
}

/// Like [`hold_view`], of the element with this id.
pub fn hold_view_of(_id: &str) -> impl FnOnce() + use<> {
    || ()
}

/// Scrolls the element with this id to its beginning.
pub fn scroll_to_beginning(_id: &str) {}

/// The ids of the turns that hold the focus and the ends of what is selected: nobody's, here.
pub fn turns_in_use() -> Vec<String> {
    Vec::new()
}

/// Sets the status of the page that is being answered.
pub fn respond_with_status(status: u16) {
    let Some(options) = use_context::<leptos_axum::ResponseOptions>() else { return };
    if let Ok(status) = axum::http::StatusCode::from_u16(status) {
        options.set_status(status);
    }
}

fn unreachable_server() -> AppError {
    AppError::new(ErrorCode::ServerUnreachable, "The server cannot be reached.")
}
