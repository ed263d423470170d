//! What is used of the browser, behind plain functions. `no_browser.rs` is the server's inert double of this file.

use crate::error::{AppError, ErrorCode};
use js_sys::{Reflect, Uint8Array};
use leptos::ev;
use leptos::prelude::{document, window};
use leptos::text_prop::TextProp;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{AbortController, BroadcastChannel, Headers, MessageEvent, RequestInit, Response};

/// The channel on which the tabs of this site talk.
const CHANNEL: &str = "verbatim";

/// How near the end, in pixels, counts as being there.
const END_SLACK: i32 = 64;

/// The steps in which a look for the server is waited for, in milliseconds.
const LOOK_STEP_MS: u32 = 500;

/// How long a code block's button says that it copied, in milliseconds.
const COPIED_MS: u32 = 1_500;

/// How a moment is written for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeStyle {
    /// Day and time.
    DayAndTime,
    /// The time alone where the moment is today, the day otherwise.
    Short,
}

/// Milliseconds since 1970.
pub fn now_ms() -> f64 {
    js_sys::Date::now()
}

/// The title of the page at hand, which follows what `text` reads.
pub fn title(text: impl Fn() -> String + Send + Sync + 'static) -> TextProp {
    text.into()
}

/// A text as `document.title` takes it: as it is.
pub fn title_text(text: String) -> String {
    text
}

/// The moment in the person's zone and language; `None` where the text is no time.
pub fn local_time(rfc3339: &str, style: TimeStyle) -> Option<String> {
    let moment = crate::model::time::parse(rfc3339)?;
    let date = js_sys::Date::new(&JsValue::from_f64(moment.timestamp_millis() as f64));
    let now = js_sys::Date::new_0();
    let is_today = date.to_date_string() == now.to_date_string();
    let options = js_sys::Object::new();
    let set = |key: &str, value: &str| {
        // Setting a property of a fresh, plain object cannot fail.
        let _ = Reflect::set(&options, &key.into(), &value.into());
    };
    match (style, is_today) {
        (TimeStyle::DayAndTime, _) => {
            set("dateStyle", "medium");
            set("timeStyle", "short");
        }
        (TimeStyle::Short, true) => set("timeStyle", "short"),
        (TimeStyle::Short, false) => {
            set("day", "numeric");
            set("month", "short");
            if date.get_full_year() != now.get_full_year() {
                set("year", "numeric");
            }
        }
    }
    let language = window().navigator().language().unwrap_or_else(|| "en".to_owned());
    Some(String::from(date.to_locale_string(&language, &options)))
}

/// The person's zone in minutes east of UTC, now.
pub fn utc_offset_minutes() -> Option<i32> {
    Some(-(js_sys::Date::new_0().get_timezone_offset() as i32))
}

fn storage() -> Option<web_sys::Storage> {
    window().local_storage().ok().flatten()
}

/// What the browser's storage holds under `key`.
pub fn stored(key: &str) -> Option<String> {
    storage()?.get_item(key).ok().flatten()
}

/// Stores a value, or removes it; false when that is not possible (no space, storage switched off).
pub fn store(key: &str, value: Option<&str>) -> bool {
    let Some(storage) = storage() else { return false };
    match value {
        Some(value) => storage.set_item(key, value).is_ok(),
        None => storage.remove_item(key).is_ok(),
    }
}

/// The keys of the browser's storage that begin with `prefix`.
pub fn stored_keys(prefix: &str) -> Vec<String> {
    let Some(storage) = storage() else { return Vec::new() };
    let count = storage.length().unwrap_or(0);
    (0..count).filter_map(|index| storage.key(index).ok().flatten()).filter(|key| key.starts_with(prefix)).collect()
}

thread_local! {
    /// What this tab holds, each with the function that lets go of it.
    static CLAIMS: RefCell<HashMap<String, js_sys::Function>> = RefCell::new(HashMap::new());
}

/// The browser's locks; they exist in a secure context only.
fn locks() -> Option<JsValue> {
    let locks = Reflect::get(&window().navigator(), &"locks".into()).ok()?;
    locks.is_object().then_some(locks)
}

/// Whether tabs can keep a thing from each other; where they cannot, each claim succeeds.
pub fn has_claims() -> bool {
    locks().is_some()
}

/// Claims a name for this tab as long as it is open or until [`release_claims`]; false while another tab holds it. It is asked
/// for at the call, not at the first poll.
pub fn claim(name: &str) -> impl Future<Output = bool> + use<> {
    let is_held = CLAIMS.with_borrow(|claims| claims.contains_key(name));
    let asked = if is_held { None } else { locks().map(|locks| ask_for_lock(&locks, name.to_owned())) };
    async move {
        match asked {
            Some(asked) => JsFuture::from(asked).await.is_ok_and(|granted| granted.is_truthy()),
            None => true,
        }
    }
}

/// A promise of whether the lock is ours now.
fn ask_for_lock(locks: &JsValue, name: String) -> js_sys::Promise {
    js_sys::Promise::new(&mut |resolve, _| {
        let options = js_sys::Object::new();
        let _ = Reflect::set(&options, &"ifAvailable".into(), &true.into());
        let kept_name = name.clone();
        let answer = resolve.clone();
        // The lock is held until the promise that this returns is kept.
        let granted = Closure::once_into_js(move |lock: JsValue| -> JsValue {
            let is_ours = lock.is_object();
            let _ = answer.call1(&JsValue::NULL, &is_ours.into());
            if !is_ours {
                return JsValue::UNDEFINED;
            }
            let mut end = None;
            let held = js_sys::Promise::new(&mut |resolve, _| end = Some(resolve));
            if let Some(end) = end {
                CLAIMS.with_borrow_mut(|claims| claims.insert(kept_name, end));
            }
            held.into()
        });
        // Typed bindings of the locks are not stable in web-sys.
        let request = Reflect::get(locks, &"request".into()).ok().and_then(|request| request.dyn_into().ok());
        let asked = request
            .and_then(|request: js_sys::Function| request.call3(locks, &name.as_str().into(), &options, &granted).ok());
        if asked.is_none() {
            let _ = resolve.call1(&JsValue::NULL, &true.into());
        }
    })
}

/// Lets go of everything that [`claim`] holds.
pub fn release_claims() {
    let claims = CLAIMS.with_borrow_mut(std::mem::take);
    for end in claims.values() {
        let _ = end.call0(&JsValue::NULL);
    }
}

/// Lets go of what [`claim`] holds under this name.
pub fn release_claim(name: &str) {
    if let Some(end) = CLAIMS.with_borrow_mut(|claims| claims.remove(name)) {
        let _ = end.call0(&JsValue::NULL);
    }
}

/// The name of this visit: of this tab, also when its page is loaded anew, where the browser lets the page keep anything.
pub fn visit_name() -> String {
    const KEY: &str = "verbatim.visit";
    thread_local! {
        static NAME: std::cell::OnceCell<String> = const { std::cell::OnceCell::new() };
    }
    NAME.with(|name| {
        name.get_or_init(|| {
            let storage = window().session_storage().ok().flatten();
            let known = storage.as_ref().and_then(|storage| storage.get_item(KEY).ok().flatten());
            known.unwrap_or_else(|| {
                let name = uuid::Uuid::new_v4().simple().to_string();
                if let Some(storage) = storage {
                    let _ = storage.set_item(KEY, &name);
                }
                name
            })
        })
        .clone()
    })
}

/// What stands in the field with this id, for what is typed before the page listens.
pub fn value_of(id: &str) -> String {
    let element = document().get_element_by_id(id);
    let value = element.and_then(|element| Reflect::get(&element, &"value".into()).ok());
    value.and_then(|value| value.as_string()).unwrap_or_default()
}

/// The `content` of the `<meta>` of this name.
pub fn meta(name: &str) -> Option<String> {
    document().query_selector(&format!("meta[name=\"{name}\"]")).ok().flatten()?.get_attribute("content")
}

/// Whether the page cannot be seen now.
pub fn is_hidden() -> bool {
    document().hidden()
}

/// Waits.
pub async fn sleep(ms: u32) {
    gloo_timers::future::TimeoutFuture::new(ms).await;
}

/// Waits, at most until the browser says that it is connected again.
pub async fn sleep_or_online(ms: u32) {
    let promise = js_sys::Promise::new(&mut |resolve, _| {
        let _ = window().set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, ms as i32);
        let online = Closure::once_into_js(move || {
            let _ = resolve.call0(&JsValue::NULL);
        });
        let options = js_sys::Object::new();
        let _ = Reflect::set(&options, &"once".into(), &true.into());
        // Typed bindings for the options would be one more feature for this one call.
        if let Ok(add) = Reflect::get(&window(), &"addEventListener".into())
            && let Ok(add) = add.dyn_into::<js_sys::Function>()
        {
            let _ = add.call3(&window(), &"online".into(), &online, &options);
        }
    });
    let _ = JsFuture::from(promise).await;
}

/// Calls `handler` again and again, for the life of the page.
pub fn every(ms: u32, handler: impl Fn() + 'static) {
    gloo_timers::callback::Interval::new(ms, handler).forget();
}

fn request(body: &str) -> Result<RequestInit, JsValue> {
    let headers = Headers::new()?;
    headers.set("content-type", "application/json")?;
    let init = RequestInit::new();
    init.set_method("POST");
    init.set_headers(&headers);
    init.set_body(&JsValue::from_str(body));
    Ok(init)
}

async fn fetch(path: &str, init: &RequestInit) -> Result<Response, AppError> {
    let answer =
        JsFuture::from(window().fetch_with_str_and_init(path, init)).await.map_err(|_| unreachable_server())?;
    let response: Response = answer.dyn_into().map_err(|_| unreachable_server())?;
    if response.ok() { Ok(response) } else { Err(refusal(&response).await) }
}

/// The error that an answer holds; one without ours comes from something between us and the server.
async fn refusal(response: &Response) -> AppError {
    match text(response).await.ok().and_then(|body| serde_json::from_str(&body).ok()) {
        Some(error) => error,
        None => unreachable_server(),
    }
}

async fn text(response: &Response) -> Result<String, JsValue> {
    Ok(JsFuture::from(response.text()?).await?.as_string().unwrap_or_default())
}

/// Sends JSON and returns the body of the answer.
///
/// # Errors
/// What the server refuses with, or that it cannot be reached.
pub async fn post(path: &str, body: String) -> Result<String, AppError> {
    let init = request(&body).map_err(|_| unreachable_server())?;
    let response = fetch(path, &init).await?;
    text(&response).await.map_err(|_| unreachable_server())
}

/// Whether the server answers within a time, in milliseconds, whatever it says.
pub async fn is_server_there(patience_ms: u32) -> bool {
    let init = RequestInit::new();
    // A small file, of which only the head is sent.
    init.set_method("HEAD");
    let _ = Reflect::set(&init, &"cache".into(), &"no-store".into());
    let Ok(abort) = AbortController::new() else { return true };
    init.set_signal(Some(&abort.signal()));
    let asked = window().fetch_with_str_and_init("/icon.svg", &init);
    spawn_local(async move {
        // In steps, so that a page that is busy itself does not take its own lateness for the server's.
        for _ in 0..patience_ms / LOOK_STEP_MS {
            sleep(LOOK_STEP_MS).await;
        }
        // To abort what is done does nothing.
        abort.abort();
    });
    let answer = JsFuture::from(asked).await;
    // Something between us and a server that is away answers with one of these.
    let answer = answer.ok().and_then(|answer| answer.dyn_into::<Response>().ok());
    answer.is_some_and(|answer| !matches!(answer.status(), 502..=504))
}

/// Sends JSON in a way that outlives the page; the answer is not waited for.
pub fn post_on_exit(path: &str, body: String) {
    let Ok(init) = request(&body) else { return };
    let _ = Reflect::set(&init, &"keepalive".into(), &true.into());
    let sent = window().fetch_with_str_and_init(path, &init);
    spawn_local(async move {
        let _ = JsFuture::from(sent).await;
    });
}

/// Sends JSON and returns the answer as it arrives.
///
/// # Errors
/// What the server refuses with, or that it cannot be reached.
pub async fn open_stream(path: &str, body: String) -> Result<ByteStream, AppError> {
    let init = request(&body).map_err(|_| unreachable_server())?;
    let abort = AbortController::new().map_err(|_| unreachable_server())?;
    init.set_signal(Some(&abort.signal()));
    STREAM.set(Some(abort.clone()));
    let response = fetch(path, &init).await?;
    let reader = response
        .body()
        .and_then(|body| body.get_reader().dyn_into::<web_sys::ReadableStreamDefaultReader>().ok())
        .ok_or_else(unreachable_server)?;
    Ok(ByteStream { reader, abort })
}

thread_local! {
    /// What ends the stream that was opened last.
    static STREAM: RefCell<Option<AbortController>> = const { RefCell::new(None) };
}

/// Ends the stream that was opened last, also while it is being opened.
pub fn abort_stream() {
    if let Some(abort) = STREAM.take() {
        abort.abort();
    }
}

/// An answer that is arriving; dropping it cancels it.
pub struct ByteStream {
    reader: web_sys::ReadableStreamDefaultReader,
    abort: AbortController,
}

impl ByteStream {
    /// The next bytes; `None` at the end and when the connection breaks.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        let chunk = JsFuture::from(self.reader.read()).await.ok()?;
        if Reflect::get(&chunk, &"done".into()).ok()?.is_truthy() {
            return None;
        }
        let value = Reflect::get(&chunk, &"value".into()).ok()?;
        Some(Uint8Array::new(&value).to_vec())
    }
}

impl Drop for ByteStream {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

thread_local! {
    static TABS: Option<BroadcastChannel> = BroadcastChannel::new(CHANNEL).ok();
}

/// Calls `heard` with each text that another tab of this site says, for the life of the page.
pub fn listen_to_tabs(heard: impl Fn(String) + 'static) {
    let handler = Closure::<dyn Fn(MessageEvent)>::new(move |event: MessageEvent| {
        if let Some(text) = event.data().as_string() {
            heard(text);
        }
    });
    TABS.with(|tabs| {
        if let Some(tabs) = tabs {
            tabs.set_onmessage(Some(handler.as_ref().unchecked_ref()));
        }
    });
    handler.forget();
}

/// Says a text to the other tabs of this site.
pub fn tell_tabs(text: &str) {
    TABS.with(|tabs| {
        if let Some(tabs) = tabs {
            let _ = tabs.post_message(&JsValue::from_str(text));
        }
    });
}

/// Calls `handler` at each such event of the window, for the life of the page.
pub fn on_window(event: &'static str, handler: impl Fn() + 'static) {
    listen(&window(), event, handler);
}

/// Calls `handler` at each such event of the document, for the life of the page.
pub fn on_document(event: &'static str, handler: impl Fn() + 'static) {
    listen(&document(), event, handler);
}

fn listen(target: &web_sys::EventTarget, event: &'static str, handler: impl Fn() + 'static) {
    let handler = Closure::<dyn Fn()>::new(handler);
    let _ = target.add_event_listener_with_callback(event, handler.as_ref().unchecked_ref());
    handler.forget();
}

/// Puts a text on the clipboard; false when the browser does not allow it.
pub async fn copy(text: String) -> bool {
    // Without a secure context there is no clipboard, and the typed getter would then hand out `undefined`.
    let clipboard = Reflect::get(&window().navigator(), &"clipboard".into()).unwrap_or(JsValue::UNDEFINED);
    if clipboard.is_undefined() {
        return false;
    }
    JsFuture::from(window().navigator().clipboard().write_text(&text)).await.is_ok()
}

/// Sets or removes an attribute of `<html>`.
pub fn set_root_attribute(name: &str, value: Option<&str>) {
    let Some(root) = document().document_element() else { return };
    let _ = match value {
        Some(value) => root.set_attribute(name, value),
        None => root.remove_attribute(name),
    };
}

/// Copies the text of the code block whose copy button was clicked; whether it was such a click.
pub fn copy_clicked_code(event: &web_sys::MouseEvent) -> bool {
    let button = event
        .target()
        .and_then(|target| target.dyn_into::<web_sys::Element>().ok())
        .and_then(|element| element.closest("button[data-copy]").ok().flatten());
    let Some(button) = button else { return false };
    let code = button
        .closest(".code")
        .ok()
        .flatten()
        .and_then(|block| block.query_selector("pre code").ok().flatten())
        .and_then(|code| code.text_content());
    if let Some(code) = code {
        spawn_local(async move {
            let said = if copy(code).await { "Copied" } else { "Not allowed" };
            button.set_text_content(Some(said));
            sleep(COPIED_MS).await;
            button.set_text_content(Some("Copy"));
        });
    }
    true
}

/// Moves the focus among the elements of `container` that match `selector`, `delta` places on.
pub fn move_focus(container: &web_sys::Element, selector: &str, delta: i32) {
    let Ok(found) = container.query_selector_all(selector) else { return };
    let active = document().active_element();
    let items: Vec<web_sys::HtmlElement> =
        (0..found.length()).filter_map(|index| found.item(index)?.dyn_into().ok()).collect();
    let current = items.iter().position(|item| active.as_ref() == Some(item.as_ref()));
    let next = match current {
        Some(current) => current as i32 + delta,
        None if delta < 0 => items.len() as i32 - 1,
        None => 0,
    };
    if let Some(item) = usize::try_from(next).ok().and_then(|next| items.get(next)) {
        let _ = item.focus();
    }
}

/// Gives the focus to the element with this id; whether there is one.
pub fn focus_id(id: &str) -> bool {
    let element = document().get_element_by_id(id).and_then(|element| element.dyn_into::<web_sys::HtmlElement>().ok());
    element.is_some_and(|element| element.focus().is_ok())
}

/// Selects what stands in the field with this id, so that what is typed takes its place.
pub fn select_field(id: &str) {
    let field =
        document().get_element_by_id(id).and_then(|element| element.dyn_into::<web_sys::HtmlInputElement>().ok());
    if let Some(field) = field {
        field.select();
    }
}

/// Activates the link or button with this id, as a click does; whether there is one.
pub fn click_id(id: &str) -> bool {
    let element = document().get_element_by_id(id).and_then(|element| element.dyn_into::<web_sys::HtmlElement>().ok());
    element.map(|element| element.click()).is_some()
}

/// The id of the element that has the focus; `None` where nothing has it, because what had it is gone.
pub fn focused_id() -> Option<String> {
    let element =
        document().active_element().filter(|element| !matches!(element.tag_name().as_str(), "BODY" | "DIALOG"))?;
    Some(element.id())
}

/// Whether something of the element with this id is in view within the element that scrolls it.
pub fn is_in_view(id: &str, scroller: &web_sys::Element) -> bool {
    let Some(element) = document().get_element_by_id(id) else { return false };
    let (place, view) = (element.get_bounding_client_rect(), scroller.get_bounding_client_rect());
    place.height() > 0.0 && place.bottom() > view.top() && place.top() < view.bottom()
}

/// Scrolls as little as is needed to have the element with this id in view.
pub fn bring_into_view(id: &str) {
    if let Some(element) = document().get_element_by_id(id) {
        let options = web_sys::ScrollIntoViewOptions::new();
        // Its type would be one more feature of `web-sys` for this one word.
        let _ = Reflect::set(&options, &"block".into(), &"nearest".into());
        element.scroll_into_view_with_scroll_into_view_options(&options);
    }
}

/// Closes a dialog at a click beside it. What is begun within it, such as a selection, does not close it.
pub fn close_at_click_beside(dialog: &web_sys::HtmlDialogElement) {
    let is_beside = {
        let dialog = dialog.clone();
        move |event: &web_sys::MouseEvent| {
            // Beside the dialog is its backdrop, which counts as the dialog itself. A click by the keyboard has no place.
            let is_dialog = event.target().as_ref() == Some(dialog.as_ref());
            let (place, x, y) = (dialog.get_bounding_client_rect(), event.client_x(), event.client_y());
            let is_within = f64::from(x) >= place.left()
                && f64::from(x) <= place.right()
                && f64::from(y) >= place.top()
                && f64::from(y) <= place.bottom();
            is_dialog && !is_within && event.detail() > 0
        }
    };
    let is_begun = Rc::new(Cell::new(false));
    let begin: Closure<dyn Fn(web_sys::MouseEvent)> = {
        let (is_beside, is_begun) = (is_beside.clone(), Rc::clone(&is_begun));
        Closure::new(move |event| is_begun.set(is_beside(&event)))
    };
    let end: Closure<dyn Fn(web_sys::MouseEvent)> = {
        let dialog = dialog.clone();
        Closure::new(move |event| {
            if is_begun.take() && is_beside(&event) {
                dialog.close();
            }
        })
    };
    // As values of JavaScript they go with the dialog.
    dialog.set_onmousedown(Some(begin.into_js_value().unchecked_ref()));
    dialog.set_onclick(Some(end.into_js_value().unchecked_ref()));
}

/// Whether the element with this id has the focus.
pub fn has_focus(id: &str) -> bool {
    document().active_element().is_some_and(|element| element.id() == id)
}

/// Gives the focus to the button of this name in a turn.
pub fn focus_button_of_turn(turn: &str, name: &str) {
    let selector = format!("[data-message-id=\"{turn}\"] button[aria-label=\"{name}\"]");
    let element = document().query_selector(&selector).ok().flatten();
    if let Some(element) = element.and_then(|element| element.dyn_into::<web_sys::HtmlElement>().ok()) {
        let _ = element.focus();
    }
}

/// Whether the person points with something exact, so that giving a field the focus opens no keyboard on the screen.
pub fn has_fine_pointer() -> bool {
    window().match_media("(pointer: fine)").ok().flatten().is_some_and(|query| query.matches())
}

/// Whether the event comes from a field in which one types.
pub fn is_typing(event: &ev::KeyboardEvent) -> bool {
    event
        .target()
        .and_then(|target| target.dyn_into::<web_sys::Element>().ok())
        .is_some_and(|element| matches!(element.tag_name().as_str(), "INPUT" | "TEXTAREA" | "SELECT"))
}

/// Whether a word is being composed (Japanese, Chinese, …), so that the key belongs to the input method. Safari says so of the Enter
/// that ends it only with the key code 229.
pub fn is_composing(event: &ev::KeyboardEvent) -> bool {
    event.is_composing() || event.key_code() == 229
}

/// Whether something is open above the page that has its own use for Escape: a dialog, a menu.
pub fn is_something_open() -> bool {
    let found = |selector: &str| document().query_selector(selector).is_ok_and(|found| found.is_some());
    found("dialog[open]") || found("[aria-haspopup][aria-expanded=\"true\"]") || found(":popover-open")
}

/// Calls `handler` when an element gets another size, and once soon; ends with what this returns.
pub fn on_resize(element: &web_sys::Element, handler: Box<dyn Fn()>) -> impl FnOnce() + use<> {
    let handler = Closure::<dyn Fn()>::wrap(handler);
    // Typed bindings would be one more feature for this one call.
    let observer = Reflect::get(&window(), &"ResizeObserver".into())
        .and_then(|class| class.dyn_into::<js_sys::Function>())
        .and_then(|class| Reflect::construct(&class, &js_sys::Array::of1(handler.as_ref())));
    let call = |observer: &JsValue, method: &str, argument: &JsValue| {
        if let Ok(method) =
            Reflect::get(observer, &method.into()).and_then(|method| method.dyn_into::<js_sys::Function>())
        {
            let _ = method.call1(observer, argument);
        }
    };
    if let Ok(observer) = &observer {
        call(observer, "observe", element.as_ref());
    }
    move || {
        if let Ok(observer) = observer {
            call(&observer, "disconnect", &JsValue::UNDEFINED);
        }
        drop(handler);
    }
}

/// Scrolls an element to its end.
pub fn scroll_to_end(element: &web_sys::Element) {
    element.set_scroll_top(element.scroll_height());
}

/// Whether an element is scrolled to its end, or nearly.
pub fn is_at_end(element: &web_sys::Element) -> bool {
    element.scroll_height() - element.scroll_top() - element.client_height() <= END_SLACK
}

/// Keeps what is in view where it is, while above it something is added or taken away, and the focus within reach of the keys that
/// scroll. What this returns is to be called when that is done, before the next frame is painted.
///
/// Most browsers do it themselves (`overflow-anchor`), and more smoothly than a script can. They do nothing at the very top, and
/// Safari nothing anywhere.
pub fn hold_view(scroller: &web_sys::Element) -> impl FnOnce() + use<> {
    let style = window().get_computed_style(scroller).ok().flatten();
    let anchoring = style.and_then(|style| style.get_property_value("overflow-anchor").ok()).unwrap_or_default();
    let is_at_top = scroller.scroll_top() == 0;
    if is_at_top {
        // Not a part of a pixel below it either, where the browser would help.
        scroller.set_scroll_top(0);
    }
    let held = if anchoring == "auto" && !is_at_top { None } else { first_turn_in_view(scroller) };
    let focused = document().active_element().filter(|element| scroller.contains(Some(element)));
    let scroller = scroller.clone();
    move || {
        if focused.is_some_and(|element| !element.is_connected())
            && let Some(scroller) = scroller.dyn_ref::<web_sys::HtmlElement>()
        {
            let _ = scroller.focus();
        }
        let Some((turn, top)) = held.filter(|(turn, _)| turn.is_connected()) else { return };
        let moved = turn.get_bounding_client_rect().top() - top;
        if moved.abs() >= 1.0 {
            scroller.set_scroll_top(scroller.scroll_top() + moved.round() as i32);
        }
    }
}

/// Like [`hold_view`], of the element with this id.
pub fn hold_view_of(id: &str) -> impl FnOnce() + use<> {
    let restore = document().get_element_by_id(id).map(|scroller| hold_view(&scroller));
    move || {
        if let Some(restore) = restore {
            restore();
        }
    }
}

/// Scrolls the element with this id to its beginning.
pub fn scroll_to_beginning(id: &str) {
    if let Some(element) = document().get_element_by_id(id) {
        element.set_scroll_top(0);
    }
}

/// The first turn of which something is in view, and where its top is.
fn first_turn_in_view(scroller: &web_sys::Element) -> Option<(web_sys::Element, f64)> {
    let view = scroller.get_bounding_client_rect().top();
    let turns = scroller.query_selector_all("[data-message-id]").ok()?;
    let turns = (0..turns.length()).filter_map(|index| turns.item(index)?.dyn_into::<web_sys::Element>().ok());
    turns
        .map(|turn| (turn.get_bounding_client_rect(), turn))
        .find(|(place, _)| place.bottom() > view)
        .map(|(place, turn)| (turn, place.top()))
}

/// The ids of the turns that hold the focus and the two ends of what is selected.
pub fn turns_in_use() -> Vec<String> {
    let selection = window().get_selection().ok().flatten().filter(|selection| !selection.is_collapsed());
    let ends = selection.map(|selection| [selection.anchor_node(), selection.focus_node()]);
    let ends = ends.into_iter().flatten().flatten();
    // What is selected are texts.
    let ends = ends.filter_map(|node| match node.dyn_into::<web_sys::Element>() {
        Ok(element) => Some(element),
        Err(text) => text.parent_element(),
    });
    document()
        .active_element()
        .into_iter()
        .chain(ends)
        .filter_map(|element| element.closest("[data-message-id]").ok().flatten()?.get_attribute("data-message-id"))
        .collect()
}

/// Sets the status of the page that is being answered: nothing to do in the browser.
pub fn respond_with_status(_status: u16) {}

fn unreachable_server() -> AppError {
    AppError::new(
        ErrorCode::ServerUnreachable,
        "The server cannot be reached. Nothing is lost; it is tried again by itself.",
    )
}
