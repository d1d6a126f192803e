import { useCallback, useEffect, useState } from "react";
import { ActionDialog } from "../actions/ActionDialog";
import { Console } from "../actions/Console";
import { useManaged } from "../state/manager";
import { useRoute } from "../state/route";
import { Nav } from "./Nav";
import { LostNotice } from "./LostNotice";
import { TopBar } from "./TopBar";
import { pages } from "./pages";

export function Shell() {
  const [first = ""] = useRoute();
  const page = pages.find((p) => p.path === first) ?? pages[0];
  const [menu, setMenu] = useState(false);
  const closeMenu = useCallback(() => setMenu(false), []);
  const stale = useManaged((s) => s.link.state === "lost");
  const consoleOpen = useManaged((s) => s.console.open);
  useTitle(page?.title ?? "");
  useEffect(() => {
    setMenu(false);
    window.scrollTo(0, 0);
  }, [first]);
  if (!page) return null;
  const View = page.view;
  return (
    <div className={`shell ${consoleOpen ? "with-console" : ""}`}>
      <a className="skip" href="#main">Skip to the content</a>
      <Nav current={page.path} open={menu} onClose={closeMenu} />
      <div className="stage">
        <TopBar menu={menu} onMenu={() => setMenu(!menu)} />
        <main id="main" tabIndex={-1} className={stale ? "stale" : ""} aria-label={page.title}>
          <View />
        </main>
      </div>
      <LostNotice />
      <Console />
      <ActionDialog />
    </div>
  );
}

/** The tab says what is wrong, for whoever looks elsewhere. */
function useTitle(title: string): void {
  const level = useManaged((s) => s.known.herd?.alert?.level ?? null);
  const cluster = useManaged((s) => s.session?.cluster ?? null);
  useEffect(() => {
    const sign = level === "error" ? "● " : level === "warning" ? "○ " : "";
    document.title = `${sign}${title} – ${cluster ?? "pgherd"}`;
  }, [title, level, cluster]);
}
