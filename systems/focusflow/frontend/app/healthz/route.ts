// It lives: the pages need nothing but this process.
export const dynamic = "force-dynamic";

export function GET() {
  return Response.json({ status: "healthy" });
}
