"""PDF files that nobody would make but to harm: small ones that unpack to much, and others without an end.

Each function returns the bytes of a file. tests/pdf.py writes ordinary ones.
"""

import zlib

FONT = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
USES_FONT = "/Resources << /Font << /F1 3 0 R >> >>"
PAGE = f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] {USES_FONT} /Contents 5 0 R >>"
TEXT = b"BT /F1 12 Tf 72 720 Td (The mill was built in 1784.) Tj ET\n"


def pdf_of(objects: list[bytes | str], trailer: str = "") -> bytes:
    """A PDF with these objects, numbered from 1; the first is the catalog."""
    body = bytearray(b"%PDF-1.4\n")
    starts = []
    for number, content in enumerate(objects, 1):
        starts.append(len(body))
        content = content.encode("latin-1") if isinstance(content, str) else content
        body += b"%d 0 obj\n" % number + content + b"\nendobj\n"
    table = "".join(f"{start:010} 00000 n \n" for start in starts)
    n_entries = len(objects) + 1
    table = f"xref\n0 {n_entries}\n0000000000 65535 f \n{table}"
    end = f"trailer\n<< /Size {n_entries} /Root 1 0 R {trailer}>>\nstartxref\n{len(body)}\n%%EOF\n"
    return bytes(body) + (table + end).encode()


def stream(data: bytes, packings: int = 1, more: str = "") -> bytes:
    """A stream object whose data is packed so many times."""
    for _ in range(packings):
        data = zlib.compress(data, 9)
    filters = " ".join(["/FlateDecode"] * packings)
    return f"<< /Length {len(data)} /Filter [{filters}] {more}>>\nstream\n".encode() + data + b"\nendstream"


def one_page(content: bytes | str, *more: bytes | str, page: str = PAGE, trailer: str = "") -> bytes:
    """A PDF of one page with this content stream, and more objects from number 6 on."""
    pages = "<< /Type /Pages /Kids [4 0 R] /Count 1 >>"
    return pdf_of(["<< /Type /Catalog /Pages 2 0 R >>", pages, FONT, page, content, *more], trailer)


def zeros_packed_twice(n_bytes: int) -> bytes:
    """`n_bytes` zero bytes, packed once and once again: the same packed megabyte over and over."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    megabyte = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = ((n_bytes % 65521) << 16) + 1
    packed = b"\x78\xda" + megabyte * (n_bytes >> 20) + b"\x03\x00" + checksum.to_bytes(4, "big")
    return zlib.compress(packed, 9)


def unpacks_to(n_bytes: int) -> bytes:
    """A page whose content unpacks to this many bytes, from some kilobytes."""
    data = zeros_packed_twice(n_bytes)
    head = f"<< /Length {len(data)} /Filter [/FlateDecode /FlateDecode] >>\nstream\n"
    return one_page(head.encode() + data + b"\nendstream")


def many_operations(n_bytes: int) -> bytes:
    """A page of text operations without an end, each of them short."""
    return one_page(stream(TEXT * (n_bytes // len(TEXT)), 2))


def shared_by_pages(n_pages: int, n_bytes: int) -> bytes:
    """Many pages that all have the same large content."""
    pages = f"<< /Type /Pages /Kids [{'4 0 R ' * n_pages}] /Count {n_pages} >>"
    return pdf_of(
        ["<< /Type /Catalog /Pages 2 0 R >>", pages, FONT, PAGE, stream(TEXT * (n_bytes // len(TEXT)))]
    )


def forms_in_forms(depth: int, width: int) -> bytes:
    """Forms that each draw the next one `width` times: width ** depth texts."""
    objects: list[bytes | str] = []
    for level in range(depth):
        uses = f"/XObject << /X {7 + level} 0 R >>" if level + 1 < depth else "/Font << /F1 3 0 R >>"
        content = b"/X Do " * width if level + 1 < depth else TEXT
        objects.append(stream(content, 1, f"/Type /XObject /Subtype /Form /Resources << {uses} >> "))
    page = "<< /Type /Page /Parent 2 0 R /Resources << /XObject << /X 6 0 R >> >> /Contents 5 0 R >>"
    return one_page(stream(b"/X Do " * width), *objects, page=page)


def form_in_itself() -> bytes:
    form = stream(b"/X Do " + TEXT, 1, "/Type /XObject /Subtype /Form /Resources 7 0 R ")
    page = "<< /Type /Page /Parent 2 0 R /Resources 7 0 R /Contents 5 0 R >>"
    return one_page(stream(b"/X Do"), form, "<< /XObject << /X 6 0 R >> /Font << /F1 3 0 R >> >>", page=page)


def page_tree_with_a_cycle() -> bytes:
    pages = "<< /Type /Pages /Kids [4 0 R 2 0 R 6 0 R] /Count 3 /Parent 6 0 R >>"
    inner = "<< /Type /Pages /Kids [2 0 R] /Count 3 /Parent 2 0 R >>"
    return pdf_of(["<< /Type /Catalog /Pages 2 0 R >>", pages, FONT, PAGE, stream(TEXT), inner])


def deep_page_tree(depth: int) -> bytes:
    objects: list[bytes | str] = ["<< /Type /Catalog /Pages 6 0 R >>", "null", FONT]
    objects += [PAGE.replace("2 0 R", f"{5 + depth} 0 R"), stream(TEXT)]
    for level in range(depth):
        child = 7 + level if level + 1 < depth else 4
        objects.append(f"<< /Type /Pages /Kids [{child} 0 R] /Count 1 /Parent {5 + level} 0 R >>")
    return pdf_of(objects)


def many_pages(n_pages: int) -> bytes:
    """Pages without a text, but the first."""
    first = 6
    kids = " ".join(f"{first + i} 0 R" for i in range(n_pages))
    pages = f"<< /Type /Pages /Kids [4 0 R {kids}] /Count {n_pages + 1} >>"
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", pages, FONT, PAGE, stream(TEXT)]
    return pdf_of([*objects, *["<< /Type /Page /Parent 2 0 R >>"] * n_pages])


def deep_objects(depth: int) -> bytes:
    return one_page(stream(TEXT + b"[" * depth + b"]" * depth + b" TJ\n" + b"<</A" * depth), "[" * depth)


def deep_in_the_page(depth: int) -> bytes:
    return one_page(stream(TEXT), page=PAGE[:-3] + " /A " + "[" * depth + "]" * depth + " >>")


def references_in_a_circle() -> bytes:
    page = PAGE.replace("/Contents 5 0 R", "/Contents 6 0 R").replace("[0 0 612 792]", "7 0 R")
    return one_page(stream(TEXT), "7 0 R", "6 0 R", page=page)


def length_of_itself() -> bytes:
    return one_page(b"<< /Length 5 0 R >>\nstream\n" + TEXT + b"endstream")


def with_a_font(font: str, *more: bytes | str) -> bytes:
    """A page whose font is this object."""
    pages = "<< /Type /Pages /Kids [4 0 R] /Count 1 >>"
    return pdf_of(["<< /Type /Catalog /Pages 2 0 R >>", pages, font, PAGE, stream(TEXT), *more])


def letters_of_surrogates() -> bytes:
    """A font whose letters are half characters and control characters."""
    ranges = "1 begincodespacerange <00> <ff> endcodespacerange\n"
    singles = "2 beginbfchar <54> <d83d> <68> <001b> endbfchar\n1 beginbfrange <69> <7a> <dc00> endbfrange\n"
    font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 6 0 R >>"
    return with_a_font(font, stream((ranges + singles).encode()))


def letters_without_end(n: int) -> bytes:
    """A font that lists a range of billions of letters."""
    ranges = b"1 begincodespacerange <00000000> <ffffffff> endcodespacerange\n"
    rows = b"1 beginbfrange <00000000> <ffffffff> <0041> endbfrange\n" * n
    font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 6 0 R >>"
    return with_a_font(font, stream(ranges + rows))


def protected() -> bytes:
    key = "<" + "00" * 32 + ">"
    more = f"/Encrypt << /Filter /Standard /V 1 /R 2 /O {key} /U {key} /P -4 >> /ID [<00> <00>] "
    return one_page(stream(TEXT), trailer=more)


def earlier_tables_in_a_circle() -> bytes:
    data = one_page(stream(TEXT))
    start = int(data.split(b"startxref\n")[1].split(b"\n")[0])
    return data.replace(b"/Root 1 0 R ", f"/Root 1 0 R /Prev {start} ".encode())


def objects_without_end() -> bytes:
    return one_page(stream(TEXT)).replace(b"/Size 6", b"/Size 999999999999")


def long_table(n: int) -> bytes:
    return one_page(stream(TEXT)).replace(b"xref\n0 6", f"xref\n0 {n}".encode())
