! upscale_fortran MODEL.pt2 COARSE.raw X Y Z FINE.raw: float64, field(x, y, z, component), x fastest.
program upscale_field
  use, intrinsic :: iso_c_binding, only: c_double
  use flowsr, only: load_upscaler, upscaler
  implicit none
  type(upscaler) :: model
  real(c_double), allocatable :: coarse(:, :, :, :), fine(:, :, :, :)
  character(len=4096) :: word(6)
  integer :: i, n(3), s, unit

  if (command_argument_count() /= 6) error stop 'usage: upscale_fortran MODEL.pt2 COARSE.raw X Y Z FINE.raw'
  do i = 1, 6
    call get_command_argument(i, word(i))
  end do
  read (word(3:5), *) n
  model = load_upscaler(word(1))
  s = model%factor()
  allocate (coarse(n(1), n(2), n(3), 3), fine(s * n(1), s * n(2), s * n(3), 3))

  open (newunit=unit, file=trim(word(2)), access='stream', form='unformatted', status='old', action='read')
  read (unit) coarse
  close (unit)
  call model%upscale(coarse, fine)
  open (newunit=unit, file=trim(word(6)), access='stream', form='unformatted', status='replace', action='write')
  write (unit) fine
  close (unit)
  call model%free()
end program upscale_field
