import { type KeyboardEvent, useId, useRef, useState } from "react";
import { Button } from "./controls";
import type { IconName } from "./icons";

export interface MenuItem {
  label: string;
  whyNot?: string | null;
  danger?: boolean;
  /** A line is drawn before it. */
  apart?: boolean;
  run(): void;
}

interface MenuProps {
  label: string;
  items: MenuItem[];
  icon?: IconName;
  text?: string;
  small?: boolean;
}

export function Menu({ label, items, icon = "more", text, small = true }: MenuProps) {
  const id = useId();
  const list = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLSpanElement>(null);
  const [open, setOpen] = useState(false);

  const show = () => {
    const shown = list.current;
    const place = button.current?.getBoundingClientRect();
    if (!shown || !place) return;
    shown.showPopover();
    const below = place.bottom + 4 + shown.offsetHeight <= window.innerHeight;
    shown.style.top = `${Math.max(8, below ? place.bottom + 4 : place.top - 4 - shown.offsetHeight)}px`;
    shown.style.left = `${Math.max(8, Math.min(place.right - shown.offsetWidth, window.innerWidth - shown.offsetWidth - 8))}px`;
    shown.querySelector<HTMLElement>("[role=menuitem]")?.focus();
  };
  const hide = () => {
    list.current?.hidePopover();
    button.current?.querySelector("button")?.focus();
  };
  const onKey = (event: KeyboardEvent) => {
    const all = [...(list.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
    const at = all.indexOf(document.activeElement as HTMLElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (event.key === "Tab") hide();
    if (to === undefined) return;
    event.preventDefault();
    all[(to + all.length) % all.length]?.focus();
  };

  return (
    <>
      <span ref={button} className="menu-button">
        <Button kind={text ? "plain" : "quiet"} icon={icon} small={small} aria-label={label} aria-haspopup="menu" aria-expanded={open} aria-controls={id} title={label} onClick={show}>
          {text}
        </Button>
      </span>
      <div ref={list} id={id} popover="auto" role="menu" aria-label={label} className="menu" onKeyDown={onKey} onToggle={(event) => setOpen(event.newState === "open")}>
        {items.map((item) => (
          <button
            key={item.label}
            type="button"
            role="menuitem"
            tabIndex={-1}
            className={`menu-item ${item.danger ? "danger" : ""} ${item.apart ? "apart" : ""}`}
            aria-disabled={item.whyNot ? true : undefined}
            title={item.whyNot ?? undefined}
            onClick={() => {
              if (item.whyNot) return;
              hide();
              item.run();
            }}
          >
            {item.label}
          </button>
        ))}
      </div>
    </>
  );
}
