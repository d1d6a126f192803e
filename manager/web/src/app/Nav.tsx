import { type MouseEvent, useEffect, useRef } from "react";
import { useManaged } from "../state/manager";
import { navigate } from "../state/route";
import { duration } from "../state/format";
import { useServerNow } from "../state/now";
import { Icon } from "../ui/icons";
import { Cut, Text } from "../ui/Text";
import { Mark } from "./Mark";
import { pages } from "./pages";

export function Nav({ current, open, onClose }: { current: string; open: boolean; onClose(): void }) {
  const list = useRef<HTMLUListElement>(null);
  const cluster = useManaged((s) => s.session?.cluster ?? null);
  useEffect(() => {
    if (!open) return;
    list.current?.querySelector<HTMLElement>("[aria-current]")?.focus();
    const onKey = (event: KeyboardEvent) => event.key === "Escape" && onClose();
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, [open, onClose]);
  return (
    <>
      {open && <div className="nav-shade" onClick={onClose} />}
      <nav id="nav" className={`nav ${open ? "open" : ""}`} aria-label="Views">
        <div className="nav-brand">
          <Mark />
          <div>
            <strong>pgherd</strong>
            {cluster && <Cut className="nav-cluster">{cluster}</Cut>}
          </div>
        </div>
        <ul ref={list}>
          {pages.map((page) => (
            <li key={page.path}>
              <a href={`/${page.path}`} aria-current={page.path === current ? "page" : undefined} onClick={(event) => { go(event, `/${page.path}`); onClose(); }}>
                <Icon name={page.icon} />
                {page.title}
              </a>
            </li>
          ))}
        </ul>
        <Version />
      </nav>
    </>
  );
}

function Version() {
  const version = useManaged((s) => s.known.herd?.version ?? s.session?.version ?? null);
  const loaded = useManaged((s) => s.session?.version ?? null);
  const uptime = useManaged((s) => s.known.herd?.uptime_seconds ?? null);
  const at = useManaged((s) => s.known.herd?.at ?? null);
  const now = useServerNow();
  const up = uptime === null || at === null ? null : uptime + Math.max(0, (now - Date.parse(at)) / 1000);
  return (
    <div className="nav-foot">
      <Text>{version === null ? null : `pgherd ${version.replace(/^pgherd /, "")}`}</Text>
      {up !== null && <span className="number" title={`${Math.round(up)} s`}>up {duration(up)}</span>}
      {version !== null && loaded !== null && version !== loaded && <a href="">Another version: load it</a>}
    </div>
  );
}

/** Opens in place, but leaves new tabs and windows to the browser. */
export function go(event: MouseEvent, to: string): void {
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  navigate(to);
}
