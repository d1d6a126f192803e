import { useManaged, useManager } from "../state/manager";
import { chooseTheme, useTheme } from "../state/theme";
import { visible } from "../state/visible";
import { Button } from "../ui/controls";
import { Icon } from "../ui/icons";
import { Badge, Dot } from "../ui/parts";
import { Cut } from "../ui/Text";

export function TopBar({ menu, onMenu }: { menu: boolean; onMenu(): void }) {
  const manager = useManager();
  const open = useManaged((s) => s.console.open);
  const running = useManaged((s) => s.known.orders.some((o) => o.state === "running"));
  return (
    <header className="topbar">
      <Button kind="quiet" icon="menu" className="nav-toggle" aria-label="Views" aria-expanded={menu} aria-controls="nav" onClick={onMenu} />
      <Connection />
      <span className="topbar-space" />
      <Button kind="quiet" icon="console" aria-expanded={open} onClick={() => manager.showConsole(!open)} aria-label="Console" title="Console" className={running ? "busy" : ""} />
      <ThemeToggle />
      <Who />
    </header>
  );
}

function Connection() {
  const state = useManaged((s) => s.link.state);
  const said = { live: "Live", connecting: "Connecting…", lost: "Connection lost" }[state];
  return (
    <span className="connection" role="status">
      <Dot tone={state === "live" ? "ok" : state === "lost" ? "error" : "plain"} />
      {said}
    </span>
  );
}

function ThemeToggle() {
  const theme = useTheme();
  const other = theme === "dark" ? "light" : "dark";
  return <Button kind="quiet" icon={theme === "dark" ? "sun" : "moon"} aria-label={`Use the ${other} theme`} title={`Use the ${other} theme`} onClick={() => chooseTheme(other)} />;
}

function Who() {
  const manager = useManager();
  const session = useManaged((s) => s.session);
  if (!session?.user) {
    return (
      <div className="who">
        <Badge>read-only</Badge>
        <Button small onClick={() => manager.askLogin(true)}>Log in</Button>
      </div>
    );
  }
  return (
    <div className="who">
      <span className="who-name" title={`${visible(session.user)}, ${session.role ?? ""}`}>
        <Icon name="user" />
        <Cut>{session.user}</Cut>
      </span>
      <Badge tone={session.role === "operator" ? "accent" : "plain"}>{session.role}</Badge>
      <Button small kind="quiet" onClick={() => void manager.logout()}>Log out</Button>
    </div>
  );
}
