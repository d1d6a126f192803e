import type { ReactNode } from "react";
import type { Resource } from "../state/resource";
import { Button } from "./controls";
import { Icon, type IconName } from "./icons";
import { Text } from "./Text";

export type Tone = "ok" | "warning" | "error" | "accent" | "plain";

export function Badge({ tone = "plain", children }: { tone?: Tone; children: ReactNode }) {
  return <span className={`badge ${tone}`}>{children}</span>;
}

export function Dot({ tone }: { tone: Tone }) {
  return <span className={`dot ${tone}`} aria-hidden="true" />;
}

interface PanelProps {
  title?: ReactNode;
  aside?: ReactNode;
  flush?: boolean;
  className?: string;
  children: ReactNode;
}

export function Panel({ title, aside, flush = false, className = "", children }: PanelProps) {
  return (
    <section className={`panel ${flush ? "flush" : ""} ${className}`}>
      {(title || aside) && (
        <header className="panel-head">
          <h2>{title}</h2>
          {aside && <div className="panel-aside">{aside}</div>}
        </header>
      )}
      {children}
    </section>
  );
}

export function Empty({ icon = "ok", title, children }: { icon?: IconName; title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <Icon name={icon} />
      <p className="empty-title">{title}</p>
      {children && <div className="empty-text">{children}</div>}
    </div>
  );
}

export function Note({ tone, children, action }: { tone: "error" | "warning" | "plain"; children: ReactNode; action?: ReactNode }) {
  return (
    <div className={`note ${tone}`} role={tone === "error" ? "alert" : "note"}>
      <Icon name={tone === "plain" ? "wait" : tone} />
      <div className="note-text">{children}</div>
      {action}
    </div>
  );
}

export function Skeleton({ rows = 5 }: { rows?: number }) {
  return (
    <div className="skeleton" role="status" aria-label="Loading">
      {Array.from({ length: rows }, (_, i) => (
        <span key={i} />
      ))}
    </div>
  );
}

/** What was read, or that it is being read, or why it could not be. Old data stay when a later read fails. */
export function Loaded<T>({ of, children }: { of: Resource<T>; children(data: T): ReactNode }) {
  return (
    <>
      {of.error && (
        <Note tone="error" action={<Button small onClick={of.reload}>Try again</Button>}>
          <Text>{of.error}</Text>
        </Note>
      )}
      {of.data !== null ? (
        <div className={of.error ? "old" : ""}>{children(of.data)}</div>
      ) : (
        !of.error && <Skeleton />
      )}
    </>
  );
}

export function Meter({ percent, level, label }: { percent: number; level: "ok" | "warning" | "critical"; label: string }) {
  const shown = Math.min(100, Math.max(0, percent));
  return (
    <div className={`meter ${level}`} role="meter" aria-label={label} aria-valuenow={Math.round(percent)} aria-valuemin={0} aria-valuemax={100}>
      <span className="meter-fill" ref={(bar) => { bar?.style.setProperty("width", `${shown}%`); }} />
      <span className="meter-mark at-60" />
      <span className="meter-mark at-80" />
    </div>
  );
}

export function Facts({ rows }: { rows: (readonly [string, ReactNode])[] }) {
  return (
    <dl className="facts">
      {rows.map(([term, value]) => (
        <div key={term}>
          <dt>{term}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

export function PageHead({ title, about, children }: { title: string; about?: ReactNode; children?: ReactNode }) {
  return (
    <header className="page-head">
      <div>
        <h1>{title}</h1>
        {about && <p className="page-about">{about}</p>}
      </div>
      {children && <div className="page-tools">{children}</div>}
    </header>
  );
}
