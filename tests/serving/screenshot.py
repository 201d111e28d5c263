"""Take a screenshot of the page with classified pictures, for the documentation.

python tests/serving/screenshot.py URL OUTPUT.png PICTURE… [--width=1000] [--dark]
"""

import argparse
import shutil

from playwright.sync_api import expect, sync_playwright


def main() -> None:
    parser = argparse.ArgumentParser(description="Take a screenshot of the page of src/serve.py.")
    parser.add_argument("url")
    parser.add_argument("output")
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--width", type=int, default=1000)
    parser.add_argument("--height", type=int, default=860)
    parser.add_argument("--whole", action="store_true", help="the whole page, not only the first screen")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--why", action="store_true", help="with the heat map of the first picture")
    settings = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": settings.width, "height": settings.height},
            color_scheme="dark" if settings.dark else "light",
            reduced_motion="reduce",  # the bars have their final width
            has_touch=settings.width < 600,
            is_mobile=settings.width < 600,
        )
        page.goto(settings.url)
        page.locator("#files").set_input_files(settings.pictures)
        expect(page.locator("#results .answer:has(h3, .error)")).to_have_count(len(settings.pictures), timeout=60_000)
        if settings.why:
            page.get_by_role("button", name="Why?").first.click()
            page.wait_for_load_state("networkidle")
        page.screenshot(path=settings.output, full_page=settings.whole)
        browser.close()


if __name__ == "__main__":
    main()
