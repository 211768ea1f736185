"""Pictures by WebGPU: a switch, the self-test first, the CPU where it does not work."""

import pytest

from .helpers import Visit, numbers


def test_without_a_gpu_the_cpu_goes_on(address, visit):
    visitor = visit(address)
    page = visitor.page
    page.get_by_text("About this page").click()
    box = page.get_by_label("Run pictures on the GPU")
    box.click()
    page.locator("#gpu small", has_text="The CPU goes on").wait_for()
    visitor.wait()
    assert not box.is_checked()
    page.get_by_label("Try 80.png").click()
    page.locator(".cards .best").nth(1).wait_for()
    visitor.errors.clear()  # the runtime says that there is no adapter


@pytest.mark.full
def test_with_a_gpu_the_numbers_are_the_same(address, gpu_browser):
    visitor = Visit(gpu_browser, address)
    page = visitor.open()
    before = numbers(page.locator(".cards > li"))
    page.get_by_text("About this page").click()
    page.get_by_label("Run pictures on the GPU").click()
    page.locator("#gpu small", has_text="passed there").wait_for()
    visitor.wait()
    page.get_by_label("Remove 37.png").click()
    page.get_by_label("Try 37.png").click()
    page.locator(".cards .best").wait_for()
    assert numbers(page.locator(".cards > li")) == pytest.approx(before, abs=0.5)
