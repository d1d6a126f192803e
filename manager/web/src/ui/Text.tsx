import { memo } from "react";
import { age, ago, bytes, count, duration, millis, moment, short } from "../state/format";
import { useServerNow } from "../state/now";
import { pieces, visible } from "../state/visible";

interface TextProps {
  children: string | null | undefined;
  className?: string;
  /** Line breaks and tabs stay what they are. */
  layout?: boolean;
  title?: string;
}

/** A text from the server, literally: what cannot be seen is named, and it cannot turn what stands around it. */
export const Text = memo(function Text({ children, className, layout = false, title }: TextProps) {
  if (children == null || children === "") return <span className="none">–</span>;
  return (
    <bdi className={className} title={title}>
      {pieces(children, layout).map((piece, i) =>
        piece.hidden ? (
          <span className="control" key={i}>
            {piece.text}
          </span>
        ) : (
          piece.text
        ),
      )}
    </bdi>
  );
});

/** A text that is cut where there is no room for it; the title has all of it. */
export function Cut({ children, className = "" }: { children: string | null | undefined; className?: string }) {
  if (children == null || children === "") return <span className="none">–</span>;
  return (
    <Text className={`cut ${className}`} title={visible(children)}>
      {children}
    </Text>
  );
}

/** An SQL text in two lines at most. */
export function Sql({ children }: { children: string | null }) {
  if (!children) return <span className="none">–</span>;
  return (
    <Text className="mono statement" title={visible(children)}>
      {children.replace(/[\r\n\t ]+/g, " ").trim()}
    </Text>
  );
}

export function Ago({ at, plain = false }: { at: string | null | undefined; plain?: boolean }) {
  const now = useServerNow();
  if (!at) return <span className="none">–</span>;
  const text = plain ? duration(Math.floor(age(at, now) ?? 0)) : ago(at, now);
  return (
    <time className="number" dateTime={at} title={at}>
      {text}
    </time>
  );
}

export function Moment({ at }: { at: string | null | undefined }) {
  const now = useServerNow();
  if (!at) return <span className="none">–</span>;
  return (
    <time className="number" dateTime={at} title={at}>
      {moment(at, now)}
    </time>
  );
}

export function Bytes({ value }: { value: number | null | undefined }) {
  if (value == null) return <span className="none">–</span>;
  return (
    <span className="number" title={`${value.toLocaleString("en")} bytes`}>
      {bytes(value)}
    </span>
  );
}

export function Millis({ value }: { value: number | null | undefined }) {
  if (value == null) return <span className="none">–</span>;
  return (
    <span className="number" title={`${value} ms`}>
      {millis(value)}
    </span>
  );
}

export function Short({ value }: { value: number | null | undefined }) {
  if (value == null) return <span className="none">–</span>;
  return (
    <span className="number" title={value.toLocaleString("en")}>
      {short(value)}
    </span>
  );
}

export function Count({ value }: { value: number | null | undefined }) {
  if (value == null) return <span className="none">–</span>;
  return (
    <span className="number" title={String(value)}>
      {count(value)}
    </span>
  );
}
