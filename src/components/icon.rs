//! The few icons, as inline SVG. Paths from Lucide (<https://lucide.dev>), ISC licence, © Lucide contributors.

use leptos::prelude::*;

/// Which icon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glyph {
    /// An arrow up: send.
    Send,
    /// A filled square: stop.
    Stop,
    /// A plus.
    Plus,
    /// A list of conversations.
    List,
    /// Two sheets: copy.
    Copy,
    /// A tick.
    Check,
    /// A circular arrow: again.
    Again,
    /// A waste bin.
    Bin,
    /// An arrow into a tray: download.
    Download,
    /// An arrow down.
    Down,
    /// A pointed bracket to the left.
    Left,
    /// A pointed bracket to the right.
    Right,
    /// A magnifying glass.
    Search,
    /// A cross.
    Close,
    /// A sun.
    Sun,
    /// A moon.
    Moon,
    /// A screen.
    Screen,
    /// A speech bubble.
    Chat,
    /// A keyboard.
    Keyboard,
    /// A drawing pin.
    Pin,
    /// A box with a lid: archive.
    Box,
    /// A pencil: rename.
    Pencil,
    /// An arrow that turns back.
    Undo,
    /// A thumb up.
    Good,
    /// A thumb down.
    Bad,
    /// A crossed-out eye: hide.
    Hide,
}

impl Glyph {
    fn path(self) -> &'static str {
        match self {
            Glyph::Send => "M12 19V5M5 12l7-7 7 7",
            Glyph::Stop => "M7 7h10v10H7z",
            Glyph::Plus => "M5 12h14M12 5v14",
            Glyph::List => "M3 5h.01M3 12h.01M3 19h.01M8 5h13M8 12h13M8 19h13",
            Glyph::Copy => {
                "M10 8h10a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2H10a2 2 0 0 1-2-2V10a2 2 0 0 1 2-2M4 16a2 2 0 0 1-2-2V4a2 2 0 0 1 2-2h10a2 2 0 0 1 2 2"
            }
            Glyph::Check => "M20 6 9 17l-5-5",
            Glyph::Again => {
                "M3 12a9 9 0 0 1 9-9 9.75 9.75 0 0 1 6.74 2.74L21 8M21 3v5h-5M21 12a9 9 0 0 1-9 9 9.75 9.75 0 0 1-6.74-2.74L3 16M8 16H3v5"
            }
            Glyph::Bin => {
                "M10 11v6M14 11v6M19 6v14a2 2 0 0 1-2 2H7a2 2 0 0 1-2-2V6M3 6h18M8 6V4a2 2 0 0 1 2-2h4a2 2 0 0 1 2 2v2"
            }
            Glyph::Download => "M12 15V3M21 15v4a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2v-4M7 10l5 5 5-5",
            Glyph::Down => "M12 5v14M19 12l-7 7-7-7",
            Glyph::Left => "m15 18-6-6 6-6",
            Glyph::Right => "m9 18 6-6-6-6",
            Glyph::Search => "m21 21-4.34-4.34M11 3a8 8 0 1 0 0 16 8 8 0 1 0 0-16",
            Glyph::Close => "M18 6 6 18M6 6l12 12",
            Glyph::Sun => {
                "M12 8a4 4 0 1 0 0 8 4 4 0 1 0 0-8M12 2v2M12 20v2M4.93 4.93l1.41 1.41M17.66 17.66l1.41 1.41M2 12h2M20 12h2M6.34 17.66l-1.41 1.41M19.07 4.93l-1.41 1.41"
            }
            Glyph::Moon => {
                "M20.985 12.486a9 9 0 1 1-9.473-9.472c.405-.022.617.46.402.803a6 6 0 0 0 8.268 8.268c.344-.215.825-.004.803.401"
            }
            Glyph::Screen => "M4 3h16a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2H4a2 2 0 0 1-2-2V5a2 2 0 0 1 2-2M8 21h8M12 17v4",
            Glyph::Chat => {
                "M22 17a2 2 0 0 1-2 2H6.828a2 2 0 0 0-1.414.586l-2.202 2.202A.71.71 0 0 1 2 21.286V5a2 2 0 0 1 2-2h16a2 2 0 0 1 2 2z"
            }
            Glyph::Keyboard => {
                "M4 4h16a2 2 0 0 1 2 2v12a2 2 0 0 1-2 2H4a2 2 0 0 1-2-2V6a2 2 0 0 1 2-2M10 8h.01M12 12h.01M14 8h.01M16 12h.01M18 8h.01M6 8h.01M7 16h10M8 12h.01"
            }
            Glyph::Pin => {
                "M12 17v5M9 10.76a2 2 0 0 1-1.11 1.79l-1.78.9A2 2 0 0 0 5 15.24V16a1 1 0 0 0 1 1h12a1 1 0 0 0 1-1v-.76a2 2 0 0 0-1.11-1.79l-1.78-.9A2 2 0 0 1 15 10.76V7a1 1 0 0 1 1-1 2 2 0 0 0 0-4H8a2 2 0 0 0 0 4 1 1 0 0 1 1 1z"
            }
            Glyph::Box => {
                "M3 3h18a1 1 0 0 1 1 1v3a1 1 0 0 1-1 1H3a1 1 0 0 1-1-1V4a1 1 0 0 1 1-1M4 8v11a2 2 0 0 0 2 2h12a2 2 0 0 0 2-2V8M10 12h4"
            }
            Glyph::Pencil => {
                "M21.174 6.812a1 1 0 0 0-3.986-3.987L3.842 16.174a2 2 0 0 0-.5.83l-1.321 4.352a.5.5 0 0 0 .623.622l4.353-1.32a2 2 0 0 0 .83-.497zM15 5l4 4"
            }
            Glyph::Undo => "M9 14 4 9l5-5M4 9h10.5a5.5 5.5 0 0 1 0 11H11",
            Glyph::Good => {
                "M15 5.88 14 10h5.83a2 2 0 0 1 1.92 2.56l-2.33 8A2 2 0 0 1 17.5 22H4a2 2 0 0 1-2-2v-8a2 2 0 0 1 2-2h2.76a2 2 0 0 0 1.79-1.11L12 2a3.13 3.13 0 0 1 3 3.88ZM7 10v12"
            }
            Glyph::Bad => {
                "M9 18.12 10 14H4.17a2 2 0 0 1-1.92-2.56l2.33-8A2 2 0 0 1 6.5 2H20a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2h-2.76a2 2 0 0 0-1.79 1.11L12 22a3.13 3.13 0 0 1-3-3.88ZM17 14V2"
            }
            Glyph::Hide => {
                "M10.733 5.076a10.744 10.744 0 0 1 11.205 6.575 1 1 0 0 1 0 .696 10.747 10.747 0 0 1-1.444 2.49M14.084 14.158a3 3 0 0 1-4.242-4.242M17.479 17.499a10.75 10.75 0 0 1-15.417-5.151 1 1 0 0 1 0-.696 10.75 10.75 0 0 1 4.446-5.143M2 2l20 20"
            }
        }
    }
}

/// An icon beside a text, or in a button that has a name of its own; hidden from screen readers.
#[component]
pub fn Icon(
    /// Which one.
    glyph: Glyph,
) -> impl IntoView {
    view! {
        <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
            <path d=glyph.path()></path>
        </svg>
    }
}

/// How a button looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// With its name beside the icon.
    Named,
    /// An icon only.
    Quiet,
    /// A small icon only.
    Small,
}

impl Look {
    fn class(self) -> &'static str {
        match self {
            Look::Named => "button",
            Look::Quiet => "button button--quiet button--icon",
            Look::Small => "button button--quiet button--icon button--small",
        }
    }
}

/// A button with an icon. One type for all of them keeps the program small that browsers load.
#[component]
pub fn IconButton(
    /// The icon.
    glyph: Glyph,
    /// What it is called, and what it says where it has room.
    #[prop(into)]
    name: Signal<&'static str>,
    /// What it does, for those who wait over it.
    title: &'static str,
    /// How it looks.
    look: Look,
    /// Called at a click.
    on_click: Callback<()>,
) -> impl IntoView {
    view! {
        <button type="button" class=look.class() aria-label=name title=title on:click=move |_| on_click.run(())>
            <Icon glyph/>
            {(look == Look::Named).then_some(name)}
        </button>
    }
    .into_any()
}
