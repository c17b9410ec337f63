! libflowsr from Fortran (2003 and later); arrays are field(x, y, z, component). See flowsr.h.
module flowsr
  use, intrinsic :: iso_c_binding, only: c_associated, c_char, c_double, c_f_pointer, c_float, c_int, c_int64_t, &
    c_null_char, c_ptr
  implicit none
  private
  public :: upscaler, load_upscaler

  type :: upscaler
    private
    type(c_ptr) :: handle
  contains
    procedure :: factor
    procedure :: upscale
    procedure :: upscale_tile
    procedure :: free
  end type upscaler

  integer(c_int), parameter :: fortran_order = 1

  interface
    function flowsr_load(path) bind(c) result(model)
      import :: c_char, c_ptr
      character(kind=c_char), intent(in) :: path(*)
      type(c_ptr) :: model
    end function flowsr_load
    subroutine flowsr_free(model) bind(c)
      import :: c_ptr
      type(c_ptr), value :: model
    end subroutine flowsr_free
    function flowsr_error() bind(c) result(text)
      import :: c_ptr
      type(c_ptr) :: text
    end function flowsr_error
    function flowsr_factor(model) bind(c) result(factor)
      import :: c_int, c_ptr
      type(c_ptr), value :: model
      integer(c_int) :: factor
    end function flowsr_factor
    function flowsr_upscale(model, shape, coarse, fine, order) bind(c) result(status)
      import :: c_double, c_int, c_int64_t, c_ptr
      type(c_ptr), value :: model
      integer(c_int64_t), intent(in) :: shape(3)
      real(c_double), intent(in) :: coarse(*)
      real(c_double), intent(inout) :: fine(*)
      integer(c_int), value :: order
      integer(c_int) :: status
    end function flowsr_upscale
    function flowsr_upscale_tile(model, shape, coarse, mean, fluctuation, fine, order) bind(c) result(status)
      import :: c_double, c_int, c_int64_t, c_ptr
      type(c_ptr), value :: model
      integer(c_int64_t), intent(in) :: shape(3)
      real(c_double), intent(in) :: coarse(*), mean(*)
      real(c_double), value :: fluctuation
      real(c_double), intent(inout) :: fine(*)
      integer(c_int), value :: order
      integer(c_int) :: status
    end function flowsr_upscale_tile
  end interface

contains

  !> A model that `flowsr export` wrote; stops the program with the reason where it cannot be loaded.
  function load_upscaler(path) result(model)
    character(len=*), intent(in) :: path
    type(upscaler) :: model
    model%handle = flowsr_load(trim(path) // c_null_char)
    if (.not. c_associated(model%handle)) call stop_with_reason()
  end function load_upscaler

  !> Refinement along each side.
  integer function factor(self)
    class(upscaler), intent(in) :: self
    factor = int(flowsr_factor(self%handle))
  end function factor

  !> Whole coarse field (x, y, z, component) to the whole fine one.
  subroutine upscale(self, coarse, fine)
    class(upscaler), intent(in) :: self
    real(c_double), contiguous, intent(in) :: coarse(:, :, :, :)
    real(c_double), contiguous, intent(inout) :: fine(:, :, :, :)
    integer(c_int64_t) :: cells(3)
    cells = [size(coarse, 1), size(coarse, 2), size(coarse, 3)]
    if (size(fine) /= size(coarse) * self%factor()**3) error stop 'flowsr: the fine field has another size'
    if (flowsr_upscale(self%handle, cells, coarse, fine, fortran_order) /= 0) call stop_with_reason()
  end subroutine upscale

  !> A part with its halo; mean and fluctuation are those of the whole field.
  subroutine upscale_tile(self, coarse, mean, fluctuation, fine)
    class(upscaler), intent(in) :: self
    real(c_double), contiguous, intent(in) :: coarse(:, :, :, :), mean(:)
    real(c_double), intent(in) :: fluctuation
    real(c_double), contiguous, intent(inout) :: fine(:, :, :, :)
    integer(c_int64_t) :: cells(3)
    cells = [size(coarse, 1), size(coarse, 2), size(coarse, 3)]
    if (flowsr_upscale_tile(self%handle, cells, coarse, mean, fluctuation, fine, fortran_order) /= 0) &
      call stop_with_reason()
  end subroutine upscale_tile

  subroutine free(self)
    class(upscaler), intent(inout) :: self
    call flowsr_free(self%handle)
  end subroutine free

  subroutine stop_with_reason()
    character(kind=c_char), pointer :: text(:)
    integer :: i
    call c_f_pointer(flowsr_error(), text, [4096])
    do i = 1, size(text)
      if (text(i) == c_null_char) exit
      write (*, '(a)', advance='no') text(i)
    end do
    write (*, *)
    error stop 2
  end subroutine stop_with_reason

end module flowsr
